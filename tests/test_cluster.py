"""Requests to stop, retries, SLURM: stages of a checkout, on a machine without a cluster."""

import json
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import fake_slurm
import killed
import pytest
from clusters import forget_this_machine, wait_for
from conftest import REPOSITORY, copy_repository

from mlegfn.errors import UserError
from mlegfn.pipeline import engine, failures, interruption, retry, snakemake_dvc
from mlegfn.pipeline.progress import Progress


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    forget_this_machine(monkeypatch, tmp_path)


# Stages in a checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, warm_environment):
    """The scales smoke and cifar10-hour; its stages are the tests' to replace."""
    folder = tmp_path_factory.mktemp("cluster") / "checkout"
    return copy_repository(folder, warm_environment, ["smoke", "cifar10-hour"])


def stub(checkout, stage, body):
    """Replace a stage; ``body``: what its run(scale_name, scale, **key) does."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    head = "import os, signal, sys, time\nfrom pathlib import Path\nfrom mlegfn.errors import *\n\n"
    (checkout.root / f"src/mlegfn/stages/{stage}.py").write_text(
        f"{head}\ndef run(scale_name, scale, **key):\n{lines}\n"
    )
    for path in checkout.root.glob("*.flag"):
        path.unlink()
    for path in (checkout.root / "results").glob(f"*/logs/{stage}@*.log"):
        path.unlink()


def ends(checkout, name, scale="smoke"):
    """The exit code in the log of every run of a stage, None where there is none."""
    log = checkout.root / f"results/{scale}/logs/{name}.log"
    parts = re.split(r"^=== 2\d\d\d-.*$", log.read_text(), flags=re.MULTILINE)[1:]
    return [int(m[1]) if (m := re.search(r"^=== exit (\d+)", part, re.MULTILINE)) else None for part in parts]


DATA = """
for name in ("images.safetensors", "dataset.json"):
    path = Path("data", scale_name, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
"""
# A training: saves within 0.3 s after SIGTERM, which may come several times.
SAVES = """
asked = []
before = signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
Path("started.flag").touch()
while not asked:
    time.sleep(0.02)
time.sleep(0.3)
Path("saved.flag").touch()
signal.signal(signal.SIGTERM, before)
raise Interrupted("the state is saved")
"""


def cmdline(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def interrupt_a_job(checkout):
    """Run the stage fetch through SLURM's fakes and interrupt its first job; (exit code, what was said).

    SLURM signals every process of a job's step: all that has started below the job's own script.
    """
    command = ["snakemake", "fetch@smoke", "--profile", "profiles/slurm", "--config", "scale=smoke"]
    command += ["--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "5"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    run = subprocess.Popen(command, cwd=checkout.root, env=checkout.environment, text=True, **pipes)
    wait_for((checkout.root / "started.flag").exists, 120)
    batch = killed.tree(int((checkout.folder / "1.pid").read_text()))
    step = [pid for pid in batch if b"srun" not in (line := cmdline(pid)) and b"slurm-jobstep" not in line]
    killed.send(step, signal.SIGTERM)
    said, _ = run.communicate(timeout=180)
    return run.returncode, said


@pytest.fixture(scope="module")
def slurm(checkout, tmp_path_factory):
    """A checkout with SLURM's commands on the PATH; ``slurm.folder`` keeps what they were told, ``slurm.run`` is
    `interrupt_a_job` of it, which mostly waits, so that it goes on beside the other tests of this file."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    folder = tmp_path_factory.mktemp("slurm")
    found = checkout.duplicate(folder / "checkout")
    found.folder = folder / "told"
    found.environment["PATH"] = f"{fake_slurm.install(found.folder)}{os.pathsep}{found.environment['PATH']}"
    first = "\n".join(f"    {line}" for line in SAVES.strip().splitlines())
    told = 'print("server", "MLEGFN_WARM" in os.environ, "job", os.environ["SLURM_JOB_ID"])'
    stub(found, "fetch", f'{told}\nif not Path("started.flag").exists():\n{first}\n{DATA}')
    with ThreadPoolExecutor(1) as thread:
        found.run = thread.submit(interrupt_a_job, found)
        yield found


@pytest.mark.usefixtures("slurm")  # whose run starts here
def test_slurm_profile_plans_without_slurm(checkout):
    shown = checkout.run("snakemake", "-n", "--profile", "profiles/slurm", "--config", "scale=cifar10-hour")
    assert re.search(r"pretrain@cifar10-hour-20000 +1", shown.stdout)


def test_a_stage_runs_as_two_ranks_with_one_log(checkout):
    stub(checkout, "pretrain", 'print("this is rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"])')
    checkout.run("mlegfn", "stage", "pretrain", "--scale", "smoke", "--step", "4", "--ranks", "2")
    assert ends(checkout, "pretrain@smoke-4") == [0]
    log = (checkout.root / "results/smoke/logs/pretrain@smoke-4.log").read_text()
    assert sorted(re.findall(r"this is rank .*", log)) == ["this is rank 0 of 2", "this is rank 1 of 2"]


def test_a_stage_under_torchrun_starts_no_ranks(checkout):
    stub(checkout, "pretrain", 'print("this is rank", os.environ["RANK"])')
    command = ("env", "RANK=1", "WORLD_SIZE=2", "MLEGFN_RANKS=2", "mlegfn", "stage", "pretrain")
    done = checkout.run(*command, "--scale", "smoke", "--step", "4")
    assert done.stdout == "this is rank 1\n"
    log = (checkout.root / "results/smoke/logs/pretrain@smoke-4.log").read_text()
    assert log == done.stdout, "head and end are rank 0's to write"


def test_a_stage_that_needs_a_gpu_gets_one_of_its_own(checkout):
    stub(checkout, "pretrain", 'print("devices", os.environ.get("CUDA_VISIBLE_DEVICES"))')
    command = ("env", "-u", "CUDA_VISIBLE_DEVICES", "MLEGFN_GPUS=x,y", "mlegfn", "stage", "pretrain")
    command += ("--scale", "cifar10-hour", "--step", "2000")
    assert "devices x\n" in checkout.run(*command).stdout
    assert "devices None\n" in checkout.run(*command, "--allow-cpu").stdout
    both = checkout.run(*command, "--ranks", "2").stdout
    assert both.count("devices x,y\n") == 2
    refused = checkout.run(*command, "--ranks", "3", check=False)
    assert refused.returncode == 2
    assert refused.stdout.count("\n") == 1 and "3 GPUs wanted, 2 visible" in refused.stdout


@pytest.fixture
def without_server(checkout):
    environment = {k: v for k, v in checkout.environment.items() if k not in ("PATH", "MLEGFN_WARM")}
    return type(checkout)(checkout.root, environment)


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("whole", [True, False], ids=["tree", "first"])
def test_dvc_waits_for_a_stage_that_saves(checkout, without_server, warm, whole):
    stub(checkout, "fetch", SAVES)
    code, said = killed.interrupted(
        checkout if warm else without_server,
        ("mlegfn", "dvc", "repro", "--single-item", "fetch@smoke"),
        signal.SIGTERM,
        (checkout.root / "started.flag").exists,
        whole,
    )
    assert code == 75, said
    assert (checkout.root / "saved.flag").exists()
    assert ends(checkout, "fetch@smoke") == [75]


def test_a_stage_that_does_not_stop_is_killed_after_the_grace_time(checkout):
    stub(checkout, "fetch", SAVES.replace("asked.append(1)", "None"))
    code, said = killed.interrupted(
        checkout,
        ("env", "MLEGFN_GRACE=0.3", "mlegfn", "dvc", "repro", "--single-item", "fetch@smoke"),
        signal.SIGTERM,
        (checkout.root / "started.flag").exists,
    )
    assert code not in (0, 75) and "did not end within 0.3 s" in said
    assert ends(checkout, "fetch@smoke") == [None]


def test_reproduce_stops_when_everything_is_saved(checkout):
    """By Ctrl-C, which is for the command itself; tests/test_interruptions.py sends SIGTERM to the whole tree."""
    stub(checkout, "planar", "pass")
    stub(checkout, "fetch", SAVES)
    code, said = killed.interrupted(
        checkout,
        ("mlegfn", "reproduce", "--scale", "smoke", "--cores", "1"),
        signal.SIGINT,
        (checkout.root / "started.flag").exists,
        whole=False,
    )
    assert code == 128 + signal.SIGINT and "Traceback" not in said
    assert ends(checkout, "fetch@smoke") == [75], said


def test_a_request_to_stop_between_stages():
    """Before the first stage DVC ends at once; what is being recorded is recorded; then no other stage starts."""
    child = interruption.Child()
    with pytest.raises(SystemExit) as error:
        child.hear(signal.SIGTERM)
    assert error.value.code == 143
    child = interruption.Child()
    child.run("/bin/sh", "true")
    child.hear(signal.SIGTERM)
    with pytest.raises(SystemExit) as error:
        child.run("/bin/sh", "true")
    assert error.value.code == 143


def test_a_stage_without_a_handler_says_that_it_was_interrupted(checkout):
    stub(checkout, "fetch", 'Path("started.flag").touch()\ntime.sleep(60)')
    code, _ = killed.interrupted(
        checkout,
        ("mlegfn", "stage", "fetch", "--scale", "smoke"),
        signal.SIGTERM,
        (checkout.root / "started.flag").exists,
        whole=False,
    )
    assert code == 75 and ends(checkout, "fetch@smoke") == [75]


# Retries


@pytest.mark.parametrize(
    "log, allowed",
    [
        (None, True),  # it died before its first word
        ("\n=== 2026-01-01 x\nstep 3\n", True),
        ("\n=== 2026-01-01 x\n=== exit 75 after 1.0 s\n", True),
        ("\n=== 2026-01-01 x\n=== exit 1 after 1.0 s\n\n=== 2026-01-01 x\n", True),
        ("\n=== 2026-01-01 x\n=== exit 75 after 1.0 s\n\n=== 2026-01-01 x\n=== exit 2 after 1.0 s\n", False),
        *(
            (f"\n=== 2026-01-01 x\nmlegfn: no\n=== exit {code} after 1.0 s\n", False)
            for code in (0, 1, 2, 130)
        ),
    ],
)
def test_what_may_be_tried_again(tmp_path, monkeypatch, log, allowed):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph.json").write_text(json.dumps({"graph": {"fetch": {"s-1": {"scale": "s-1"}}}}))
    if log is not None:
        (tmp_path / "results/s-1/logs").mkdir(parents=True)
        (tmp_path / "results/s-1/logs/fetch@s-1.log").write_text(log)
    if allowed:
        assert retry.check("fetch@s-1") == 0
    else:
        with pytest.raises(UserError, match="ended with exit code"):
            retry.check("fetch@s-1")
    with pytest.raises(UserError, match="no such stage"):
        retry.check("fetch@s-2")


def test_how_an_earlier_run_ended_does_not_matter(tmp_path, monkeypatch):
    """A node is lost before the stage has begun: its log still tells how last week's run failed."""
    test_what_may_be_tried_again(tmp_path, monkeypatch, "\n=== 2026-01-01 x\n=== exit 2 after 1.0 s\n", False)
    os.utime(tmp_path / "results/s-1/logs/fetch@s-1.log", (1e9, 1e9))
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / ".snakemake/asked-dvc").touch()
    assert retry.check("fetch@s-1") == 0


# The n-th attempt fails in the n-th way.
FAILS = """
attempt = len(list(Path().glob("attempt*.flag")))
Path(f"attempt{attempt}.flag").touch()
"""


@pytest.mark.parametrize(
    "body, codes",
    [
        (
            'if attempt == 0: raise Interrupted("saved")\nif attempt == 1: os.kill(os.getpid(), 9)',
            [75, None, 0],
        ),
        ("if attempt == 0: 1 / 0", [1]),
    ],
    ids=["interrupted, then killed", "bug"],
)
def test_the_profile_tries_again_what_makes_sense(checkout, body, codes):
    """Meanwhile a lock that a killed Snakemake left behind is in nobody's way."""
    stub(checkout, "fetch", f"{FAILS}\n{body}\n{DATA}")
    stale = checkout.root / ".snakemake/locks/0.output.lock"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_text("data/smoke/images.safetensors\n")
    done = checkout.run(
        *("snakemake", "fetch@smoke", "--profile", "profiles/local", "--config", "scale=smoke"), check=False
    )
    assert ends(checkout, "fetch@smoke") == codes, done.stdout
    assert done.returncode == (codes[-1] != 0)


def test_progress_forgets_a_failure_that_was_made_good():
    with open(os.devnull, "w") as nowhere, Progress({"a@s"}, ["a@s"], 1, stream=nowhere) as progress:
        for line in ("rule a@s:", "Error in rule a@s:", "rule a@s:", "Finished jobid: 1 (Rule: a@s)"):
            progress.hear(line)
    assert progress.failed == [] and progress.done == 1


def test_reproduce_says_when_running_again_helps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/s/logs").mkdir(parents=True)
    (tmp_path / "results/s/logs/a@s.log").write_text("\n=== 2026-01-01 x\n=== exit 75 after 1 s\n")
    (tmp_path / "log").touch()
    assert failures.explain("s", ["a@s"], tmp_path / "log", []) == 75


# SLURM


@pytest.mark.parametrize("count, options", [(1, "--gpus=1"), (2, "--gpus=2")])
def test_a_gpu_stage_asks_slurm_for_what_its_meta_says(monkeypatch, count, options):
    submit = pytest.importorskip("snakemake_executor_plugin_slurm.submit_string")
    utils = pytest.importorskip("snakemake_executor_plugin_slurm.utils")
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("MLEGFN_RANKS", str(count))
    stage = engine.read("cifar10-hour").stages["pretrain@cifar10-hour-2000"]
    threads, wanted = snakemake_dvc.resources(stage)

    class Resources(SimpleNamespace):
        def get(self, name, default=None):
            return getattr(self, name, default)

    job = SimpleNamespace(threads=threads, resources=Resources(**wanted))
    settings = SimpleNamespace(requeue=True, no_requeue=False, qos=None, reservation=None)
    names = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
    call = submit.get_submit_command(job, dict.fromkeys(names, ""), settings) + utils.set_gres_string(job)
    for option in (options, "--mem 16000", "-t 240", "--requeue", "--cpus-per-task=1"):
        assert f" {option}" in call


def test_a_slurm_job_that_is_interrupted_goes_on_in_another(slurm):
    """Through sbatch, srun and sacct, which are fakes that run it here; the warm server is left out."""
    code, said = slurm.run.result()
    assert code == 0 and ends(slurm, "fetch@smoke") == [75, 0], said
    log = (slurm.root / "results/smoke/logs/fetch@smoke.log").read_text()
    assert re.findall("server.*", log) == ["server False job 1", "server False job 2"]
    calls = fake_slurm.submitted(slurm.folder)
    assert len(calls) == 2
    for call in calls:
        assert fake_slurm.option(call, "--mem") == "4000" and fake_slurm.option(call, "-t") == "60"
        assert fake_slurm.option(call, "--signal") == "TERM@120" and "--requeue" in call
        assert fake_slurm.option(call, "--gpus") is None


def test_every_stage_says_how_long_it_may_take(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    for name, stage in engine.read().stages.items():
        assert stage.meta["resources"]["runtime"] >= 10 and stage.meta["resources"]["mem_mb"] >= 1000, name
