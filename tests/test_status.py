"""`mlegfn status` beside a run, and the time that is left."""

import signal
import subprocess
import sys
import time

import pytest

from mlegfn.pipeline import progress, running, stage, status

# What a run holds: a stage its log, Snakemake its scale, and DVC its own lock.
RUN = """
import sys, time
from filelock import FileLock
from dvc.repo import Repo
from mlegfn.pipeline import running
snakemake = FileLock(".snakemake/smoke.lock")
snakemake.acquire()
log = open("results/smoke/logs/planar@smoke-moons.log", "a")
running.hold(log)
log.write(time.strftime("\\n=== %Y-%m-%d %H:%M:%S mlegfn stage planar (process 1)\\n"))
log.write("\\rmoons:   0%|     | 0/8 [00:00<?]\\rmoons:  50%|###  | 4/8 [00:01<00:01, loss=0.25]")
log.flush()
with Repo(".").lock:
    print("ready", flush=True)
    time.sleep(600)
"""


def test_status_beside_a_run(smoke, monkeypatch, capsys):
    """It does not wait for DVC's lock, says what runs, what waits and how long; and believes no dead process."""
    monkeypatch.chdir(smoke.root)
    assert look(capsys)["smoke:"].endswith("done, 0 stale, 0 missing")
    smoke.edit(
        "params.yaml", "      hidden: 8\n      layers: 1", "      hidden: 9\n      layers: 1"
    )  # planar
    process = subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=smoke.root, env=smoke.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        shown = look(capsys)
        assert shown["planar@smoke-moons"].startswith("running")
        assert "50% 4/8" in shown["planar@smoke-moons"] and "loss=0.25" in shown["planar@smoke-moons"]
        assert shown["planar@smoke-checkerboard"].startswith("waiting")
        assert shown["figures@smoke"].startswith("waiting") and "follows planar@" in shown["figures@smoke"]
        assert shown["fetch@smoke"] == "done    fetch@smoke"
        assert "1 running, 4 waiting" in shown["smoke:"] and " left" in shown["smoke:"]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    shown = look(capsys)
    assert shown["planar@smoke-moons"].startswith("stale")
    assert shown["figures@smoke"].startswith("done") and "follows planar@" in shown["figures@smoke"]
    assert "running" not in shown["smoke:"] and "0 missing" in shown["smoke:"]
    assert " left on 1 core" in shown["smoke:"]  # by the records of the run before


def look(capsys):
    """{stage, or "smoke:": its line}."""
    assert status.show("smoke") == 0
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[1]: line for line in lines[:-1]} | {"smoke:": lines[-1]}


def test_a_stage_holds_its_log_as_long_as_it_lives(tmp_path):
    log = tmp_path / "a.log"
    assert not running.held(log)
    with open(log, "a") as file, open(log, "a") as rank:
        running.hold(file)
        running.hold(rank)  # the ranks of a stage hold it together
        assert running.held(log)
    assert not running.held(log)


def test_a_running_stage_is_one_that_holds_its_log(smoke, monkeypatch):
    monkeypatch.chdir(smoke.root)
    seen = []

    def attempt(*_):
        seen.append(running.stages("smoke", ["tables@smoke", "fetch@smoke"]))
        return 2

    monkeypatch.setattr(stage, "attempt", attempt)
    assert stage.run("tables", "smoke", {}) == 2
    (found,) = seen
    assert list(found) == ["tables@smoke"] and 0 <= found["tables@smoke"].seconds < 60
    assert running.stages("smoke", ["tables@smoke"]) == {}


@pytest.mark.parametrize(
    "text, said",
    [
        ("", ""),
        ("\n=== 2026-01-02 03:04:05 mlegfn stage x\n", ""),
        (
            "\n=== 2026-01-01 00:00:00 x\nold\n=== exit 0 after 1 s\n\n=== 2026-01-02 03:04:05 x\na\r b \r",
            "b",
        ),
    ],
)
def test_what_a_log_tells(tmp_path, text, said):
    log = tmp_path / "a.log"
    log.write_text(text)
    found = running.look("a", log)
    assert found.said == said
    begun = time.mktime(time.strptime("2026-01-02 03:04:05", "%Y-%m-%d %H:%M:%S"))
    assert found.since == (begun if text else None) and (found.seconds is None) == (not text)


def test_cores_are_those_of_the_last_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert status.provided("s") == 1
    log = tmp_path / "results/s/logs/snakemake.log"
    log.parent.mkdir(parents=True)
    log.write_text("Provided cores: 2 (x)\nrule x:\nProvided cores: 8\n")
    assert status.provided("s") == 8


# ---------------------------------------------------------------- time left


def left(*arguments, **options):
    return progress.remaining(*arguments, **options)


def test_time_left_by_what_stages_took_before():
    known = {"nll@s-1": 10.0, "nll@s-2": 30.0, "planar@s-a": 100.0}
    assert left(["nll@s-1", "planar@s-a"], {}, 1, known) == 110
    assert left(["nll@s-1", "nll@s-2"], {}, 2, known) == 30  # the longest is not shared out
    assert left(["nll@s-1"], {"planar@s-a": 40.0}, 1, known) == 70
    assert left(["nll@s-1"], {"planar@s-a": 400.0}, 1, known) == 10  # longer than ever: about to end
    assert left(["nll@s-3"], {}, 1, known) == 20  # one of its kind
    assert left([], {}, 1, known) == 0
    assert left(["nll@s-1"], {}, 1, {}) is None


def test_time_left_by_how_fast_this_run_is():
    known = {"nll@s-1": 10.0, "nll@s-2": 30.0, "planar@s-a": 100.0}
    hours = {name: 3600 * seconds for name, seconds in known.items()}
    half_as_fast = left(["nll@s-2", "planar@s-a"], {}, 1, hours, {"nll@s-1": 2 * hours["nll@s-1"]})
    assert half_as_fast == pytest.approx(2 * 3600 * 130, rel=0.01)
    # A stage that computes nothing has to start, too: that is no pace.
    short = {"fetch@s": 0.1, "planar@s-a": 100.0}
    assert left(["planar@s-a"], {}, 1, short, {"fetch@s": 8.0}) < 120
    assert left(["nll@s-9"], {}, 1, known, {"nll@s-1": 20.0}) == 20  # what has run now says more
    weight = progress.WEIGHTS["planar"]
    assert left(["planar@s-b"], {}, 1, {}, {"nll@s-1": 20.0}) == 20 * weight  # a guess, before any


def test_time_in_words():
    words = [progress.in_words(seconds) for seconds in (3.4, 90, 600, 7200, 12_000)]
    assert words == ["3 s", "90 s", "10 min", "120 min", "3 h 20 min"]


def test_process_numbers_are_not_believed(tmp_path, monkeypatch):
    """A log that says process 1, which lives, and has no end: nothing holds it, so nothing runs."""
    folder = tmp_path / "results/s/logs"
    folder.mkdir(parents=True)
    (folder / "a@s.log").write_text("\n=== 2026-01-01 00:00:00 mlegfn stage a (process 1)\n")
    monkeypatch.chdir(tmp_path)
    assert running.stages("s", ["a@s"]) == {}
