"""What a full disk, a limit or missing rights look like to a user, and what the fault campaign would notice."""

import errno
import importlib.util
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from random import Random

import pytest
from conftest import REPOSITORY

from mlegfn import artifacts
from mlegfn.cli import explain
from mlegfn.pipeline import failures, reproduce
from mlegfn.pipeline.sweep import sweep, sweep_rwlock

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from faults import checkouts, flips, interruptions, processes, whole


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "a file: no space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x/y"), "x/y: no space left"),
        (RuntimeError("Error: I/O error: No space left on device (os error 28)"), "a file: no space left"),
        (RuntimeError("I/O error (os error 27)"), "a file: larger than a file may be"),
        (RuntimeError("I/O error (os error 30)"), "a file: not permitted (Read-only file system)"),
        (
            RuntimeError("ERROR: unexpected error - [Errno 28] No space left on device: '/c/ab'"),
            "/c/ab: no space",
        ),
        (
            RuntimeError("ERROR: unexpected error - [Errno 30] Read-only file system: '/c/ab'"),
            "/c/ab: not permitted",
        ),
        (RuntimeError("database or disk is full"), "no space left"),
        (RuntimeError("disk I/O error"), "the disk failed to read or write"),
        (sqlite3.OperationalError("disk I/O error"), "DVC's notes on files (SQLite, in .dvc/tmp and"),
        (RuntimeError("attempt to write a readonly database"), "not permitted"),
    ],
)
def test_what_the_machine_refuses_is_one_line(error, words):
    """The libraries' own words for it, not only Python's OSError."""
    line = str(explain(error))
    assert words in line and "\n" not in line


def test_the_programs_own_mistakes_keep_their_traceback():
    for error in (OSError(errno.ENOENT, "No such file"), ValueError("[Errno 2] it said"), RuntimeError("28")):
        assert explain(error) is None


@pytest.fixture
def small_files():
    """No file may grow beyond 4 KiB: what a quota or a full disk does to a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_names_its_file_and_leaves_the_old_one(tmp_path, small_files):
    path = tmp_path / "metrics.json"
    artifacts.write_text(path, "old")
    with pytest.raises(OSError) as raised:
        artifacts.write_bytes(path, bytes(8192))
    assert str(explain(raised.value)).startswith(f"{path}: larger than")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["metrics.json"]


def test_a_folder_that_fails_names_itself_whatever_the_library_raises(tmp_path, small_files):
    """safetensors raises an error of its own, without a name."""
    import numpy
    from safetensors.numpy import save_file

    with (
        pytest.raises(Exception, match=r"os error 27|File too large") as raised,
        artifacts.atomic_directory(tmp_path / "checkpoint") as folder,
    ):
        save_file({"weights": numpy.zeros(4096)}, folder / "state.safetensors")
    assert str(explain(raised.value)).startswith(f"{tmp_path / 'checkpoint'}: larger than")
    assert not os.listdir(tmp_path)


def test_a_folder_that_cannot_be_copied_is_one_line(tmp_path, small_files):
    """shutil collects what each file said, and gives its own error no number."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    (tmp_path / "point").mkdir()
    (tmp_path / "point/weights").write_bytes(bytes(8192))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with pytest.raises(shutil.Error) as raised, artifacts.atomic_directory(tmp_path / "checkpoint") as folder:
        shutil.copytree(tmp_path / "point", folder / "point")
    assert str(explain(raised.value)).startswith(f"{tmp_path / 'checkpoint'}: larger than")
    assert os.listdir(tmp_path) == ["point"]


def test_a_full_cache_is_the_users_to_mend(tmp_path, monkeypatch, capsys):
    """DVC fails after the stage has done well; the run ends with 2 and one line, not with its traceback."""
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "results/smoke/logs/fetch@smoke.log"
    log.parent.mkdir(parents=True)
    log.write_text("\n=== 2026-01-01 00:00:00 mlegfn stage fetch (process 1)\n=== exit 0 after 1.0 s\n")
    said = [
        "Traceback (most recent call last):",
        "ERROR: unexpected error - [Errno 28] No space left: '/cache/ab'",
    ]
    assert failures.explain("smoke", ["fetch@smoke"], log, said) == 2
    shown = capsys.readouterr().err
    assert "mlegfn: /cache/ab: no space left" in shown and "Traceback" not in shown
    assert failures.explain("smoke", ["fetch@smoke"], log, ["ERROR: something else"]) == 1
    assert (
        failures.explain("smoke", [], log, ["Traceback", "OSError: [Errno 28] No space left on device"]) == 2
    )


def test_make_passes_sigterm_on_and_waits(tmp_path):
    """`timeout make reproduce` signals make alone: the run has to hear of it, and to end before make does."""
    tools = tmp_path / ".venv/bin"
    tools.mkdir(parents=True)
    for name in ("requirements.lock", "pyproject.toml", ".venv/complete"):
        (tmp_path / name).touch()
    script = "import pathlib, signal\n"
    script += "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('heard').touch(), exit(143)))\n"
    script += "pathlib.Path('ready').touch()\nsignal.pause()\n"
    (tools / "mlegfn").write_text(f"#!{sys.executable}\n{script}")
    (tools / "mlegfn").chmod(0o755)
    make = subprocess.Popen(["make", "-s", "-f", REPOSITORY / "Makefile", "reproduce"], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert make.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    make.terminate()
    assert make.wait(60) != 0 and (tmp_path / "heard").exists()


def test_halves_of_a_killed_run_are_swept_and_nothing_else(tmp_path, monkeypatch):
    """A process that is killed while it writes leaves its temporary name; git would list it for ever."""
    from types import SimpleNamespace

    from filelock import FileLock

    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake").mkdir()
    folder = tmp_path / "results/smoke/metrics"
    folder.mkdir(parents=True)
    kept = {"a.json", ".a.json.swp", ".notes.markdown", ".b.json.abcdefgh"}
    for name in (*kept, ".a.json.x1_y2z3a"):
        (folder / name).touch()
    (folder / ".model.0123abcd").mkdir()
    outs = ["results/smoke/metrics/a.json", "results/smoke/metrics/model", "results/smoke/none/c"]
    pipeline = SimpleNamespace(stages={"a@smoke": SimpleNamespace(outs=outs)})
    with FileLock(".snakemake/smoke.lock"):  # another Snakemake may be writing just that
        sweep("smoke", pipeline)
    assert len(os.listdir(folder)) == 6
    sweep("smoke", pipeline)
    assert set(os.listdir(folder)) == kept


def test_a_log_that_cannot_grow_stops_no_run(tmp_path, small_files):
    """Neither in a write nor when it is closed."""
    with reproduce.kept_in(tmp_path / "snakemake.log") as keep:
        for _ in range(3):
            keep("x" * 4000 + "\n")
    assert (tmp_path / "snakemake.log").stat().st_size <= 4096


def test_the_campaign_notices_one_byte(tmp_path):
    """Its comparison must be able to fail: a byte, a file too few, a file too many, half a file."""
    root = tmp_path / "trial" / "checkout"
    for name in ("data/smoke/images", "results/smoke/metrics/a.json", "results/smoke/logs/a.log"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    subprocess.run(["git", "init", "-q", root], check=True)
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  a@smoke:\n    cmd: a\n    outs:\n    - path: results/smoke/metrics/a.json\n"
    )
    checkout = checkouts.Checkout(tmp_path / "trial", tmp_path)
    reference = checkouts.describe(checkout, 1.0)
    assert checkouts.verdict(checkout, reference)["equal"] and not whole.harm(checkout, reference)
    (root / "results/smoke/logs/a.log").write_text("another")
    assert checkouts.verdict(checkout, reference)["equal"]

    file = root / "results/smoke/metrics/a.json"
    (file.parent / ".a.json.x1y2z3").touch()
    assert not checkouts.verdict(checkout, reference)["equal"]
    (file.parent / ".a.json.x1y2z3").unlink()
    times = file.stat().st_mtime_ns
    flips.spoil(file, Random(0), keep=True)
    assert file.stat().st_mtime_ns == times
    assert checkouts.verdict(checkout, reference)["differing"] == ["results/smoke/metrics/a.json"]
    assert whole.harm(checkout, reference)
    file.unlink()
    assert whole.harm(checkout, reference) == [
        "results/smoke/metrics/a.json: recorded by a@smoke, but not there"
    ]
    (root / ".dvc/cache/files/md5/ab").mkdir(parents=True)
    (root / ".dvc/cache/files/md5/ab/cd").write_text("half")
    assert "cache object abcd: not its content's MD5" in whole.harm(checkout, reference)


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="finds processes in /proc")
def test_the_campaign_kills_what_has_left_the_session():
    script = "import subprocess, sys; subprocess.Popen(['sleep', '60'], start_new_session=True)"
    environment = {**os.environ, processes.MARK: "test-of-the-campaign"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert list(processes.command_lines("test-of-the-campaign").values()) == ["sleep 60"]
    assert processes.kill_all("test-of-the-campaign") == 1 and processes.gone("test-of-the-campaign", 5)


def test_the_campaign_reads_what_an_interruption_cost(tmp_path):
    logs = tmp_path / "checkout/results/smoke/logs"
    logs.mkdir(parents=True)
    stopped = (
        "mlegfn: asked to stop at step 120; the state is saved, run again to go on\n=== exit 75 after 3.5 s\n"
    )
    begin = "\n=== 2026-01-01 00:00:00 mlegfn stage (process 1)\n"
    checkout = checkouts.Checkout(tmp_path, tmp_path)
    for resumed, lost in ((120, 0.0), (100, 3.5)):
        (logs / "p@smoke.log").write_text(f"{begin}{stopped}{begin}resuming at step {resumed} from x\n")
        (entry,) = interruptions.lost(checkout)
        assert (entry["stopped"], entry["resumed"], entry["lost_s"]) == (120, resumed, lost)


def test_what_a_kill_left_of_dvcs_file_of_readers_and_writers_is_deleted(tmp_path):
    """DVC writes it in place, and refuses every stage while it is no JSON."""
    from dvc.fs import localfs
    from dvc.lock import make_lock
    from dvc.rwlock import RWLockFileCorruptedError, rwlock

    info = (str(tmp_path), localfs, "a stage", [], [str(tmp_path / "out")], False)
    file = tmp_path / "rwlock"
    for left in (b"", b'{"write": {"out"', b"\xff"):
        file.write_bytes(left)
        if left != b"\xff":
            with pytest.raises(RWLockFileCorruptedError), rwlock(*info):
                pass
        sweep_rwlock(tmp_path)
        assert not file.exists()
        with rwlock(*info):
            assert file.exists()
            whole = file.read_bytes()
            sweep_rwlock(tmp_path)
            assert file.read_bytes() == whole, "what is whole stays"
    file.write_bytes(b"")
    with make_lock(str(tmp_path / "rwlock.lock"), tmp_dir=str(tmp_path)):
        sweep_rwlock(tmp_path)
        assert file.exists(), "somebody is just writing it"
    sweep_rwlock(tmp_path / "none")


def test_a_kind_that_was_begun_anew_counts_once():
    spec = importlib.util.spec_from_file_location("campaign", REPOSITORY / "benchmarks/faults.py")
    campaign = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(campaign)
    old = [{"kind": "full", "index": 0, "commit": "a"}, {"kind": "kill", "index": 0, "commit": "a"}]
    new = [{"kind": "full", "index": index, "commit": "b"} for index in (0, 1)]
    assert campaign.newest(old + new) == [old[1], *new]
