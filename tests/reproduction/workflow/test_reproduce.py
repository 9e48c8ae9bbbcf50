"""`mlegfn reproduce`: what Snakemake is told to run, on how much of which machine, here and on a cluster.

tests/reproduction/test_pipeline.py runs the whole scale smoke.
"""

import json
import os
import re
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from helpers import fake_slurm
from helpers import toy as toys
from helpers.processes import command_line, send, tree, wait_for
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction import cli
from reproduction import params as settings
from reproduction.workflow import dvc, reproduce


@cache
def params():
    return settings.load(REPOSITORY / "params.yaml")


def planned(scale, stale, ranks=1, allow_cpu=False):
    """{stage: what the Snakefile is told} where these stages are stale."""
    needs = {
        f"fetch@{scale}": [],
        f"pretrain@{scale}": [f"fetch@{scale}"],
        f"finetune@{scale}-simple_tbc": [f"pretrain@{scale}"],
    }
    needs |= {
        f"trajectories@{scale}": [f"finetune@{scale}-simple_tbc"],
        f"images_report@{scale}": [f"trajectories@{scale}"],
    }
    plan = dvc.Plan(list(needs), needs, {key: ["x"] for key in stale})
    return json.loads(reproduce.write_plan(plan, params(), ranks, allow_cpu).read_text())


@pytest.fixture
def definitions(tmp_path, monkeypatch):
    """The repository's dvc.yaml, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text((REPOSITORY / "dvc.yaml").read_text())


def test_the_plan_has_the_stale_stages_alone(definitions):
    found = planned("smoke", ["finetune@smoke-simple_tbc"])
    assert {name: stage["needs"] for name, stage in found.items()} == {
        "finetune@smoke-simple_tbc": [],
        "trajectories@smoke": ["finetune@smoke-simple_tbc"],
        "images_report@smoke": ["trajectories@smoke"],
    }
    assert [stage["priority"] for stage in found.values()] == [2, 1, 0]
    assert found["images_report@smoke"]["resources"] == {"mem_mb": 2000, "runtime": 30}


def test_a_rank_counts_as_a_gpu_or_as_a_thread(definitions):
    def of(stages, name):
        return stages[name]["threads"], stages[name]["resources"].get("gpu", 0)

    on_gpu, on_cpu = planned("cifar10_hour", ["fetch@cifar10_hour"], 2), planned("smoke", ["fetch@smoke"], 2)
    assert of(on_gpu, "pretrain@cifar10_hour") == of(on_gpu, "finetune@cifar10_hour-simple_tbc") == (1, 2)
    assert of(on_gpu, "trajectories@cifar10_hour") == (1, 1)
    assert of(on_gpu, "fetch@cifar10_hour") == of(on_gpu, "images_report@cifar10_hour") == (1, 0)
    assert of(on_cpu, "pretrain@smoke") == (2, 0) and of(on_cpu, "trajectories@smoke") == (1, 0)
    allowed = planned("cifar10_hour", ["fetch@cifar10_hour"], 2, allow_cpu=True)
    assert of(allowed, "pretrain@cifar10_hour") == (2, 0)


def test_the_plan_of_an_earlier_run_is_gone(definitions):
    marker = reproduce.RUNS / "plan-1.json.done/fetch@smoke"
    marker.parent.mkdir(parents=True)
    marker.touch()
    planned("smoke", ["fetch@smoke"])
    assert not marker.exists()


def test_every_stage_says_how_much_it_may_take():
    """A cluster's own defaults are minutes and little memory."""
    stages = settings.read_yaml(REPOSITORY / "dvc.yaml")["stages"]
    for name, stage in stages.items():
        meta = stage.get("do", stage)["meta"]
        assert (
            meta["runtime"] >= 10 and meta["mem_mb"] >= 1000 and set(meta) <= {"gpu", "runtime", "mem_mb"}
        ), name


def test_how_many_gpus_there_are(monkeypatch):
    monkeypatch.setenv("MLEGFN_GPUS", "0,1")
    monkeypatch.delenv("MLEGFN_SHARE_GPU", raising=False)
    assert reproduce.visible_gpus(params(), "cifar10_hour", False) == 2
    assert reproduce.visible_gpus(params(), "cifar10_hour", True) is None
    assert reproduce.visible_gpus(params(), "smoke", False) is None
    assert reproduce.visible_gpus(params(), "discrete", False) is None, "a scale without images"
    with pytest.raises(UserError, match=r"^RANKS=3: only 2 GPU"):
        reproduce.visible_gpus(params(), "cifar10_hour", False, ranks=3)
    monkeypatch.setenv("MLEGFN_SHARE_GPU", "1")
    assert reproduce.visible_gpus(params(), "cifar10_hour", False) is None


def test_without_a_gpu_a_gpu_scale_is_refused(monkeypatch):
    monkeypatch.delenv("MLEGFN_GPUS", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UserError, match=r"needs a GPU and torch finds none; .*--allow-cpu"):
        reproduce.visible_gpus(params(), "cifar10", False)


def test_snakemakes_command_line():
    words = reproduce.command("plan.json", 3, 2, None)
    assert words[words.index("--cores") + 1] == "3" and words[-2:] == ["--resources", "gpu=2"]
    words = reproduce.command("plan.json", 3, None, "profiles/slurm")
    assert words[-2:] == ["--profile", "profiles/slurm"] and "--cores" not in words


def test_markers_in_the_order_in_which_they_came(tmp_path):
    for second, name in enumerate(("b", "a", "c")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (second, second))
    (tmp_path / "folder").mkdir()
    assert reproduce.finished(tmp_path) == ["b", "a", "c"] and reproduce.finished(tmp_path / "none") == []


def test_what_is_shown_at_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for path in ("images/figures/figure1.png", "images/tables/nll.csv", "planar/figures/figure2.png"):
        Path("results/s", path).parent.mkdir(parents=True)
        Path("results/s", path).touch()
    Path("results/s/images/report").mkdir()
    Path("results/s/images/report/verdict.md").write_text(f"| {'a claim of many words ' * 20} | refuted |\n")
    verdicts = ["reproduced", "refuted", "not tested at this scale", "refuted", "undecided"]
    claims = [{"claim": "of many words " * 20, "verdict": verdict} for verdict in verdicts]
    Path("results/s/images/report/verdict.json").write_text(json.dumps({"claims": claims}))
    reproduce.show("s")
    shown = capsys.readouterr().out
    assert "results/s/images/figures/figure1.png\n  results/s/planar/figures/figure2.png" in shown
    assert "results/s/images/tables/nll.csv" in shown and "results/s/images/report/verdict.md" in shown
    assert "\n  2 refuted, 1 reproduced, 1 not tested at this scale, 1 undecided\n" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--scale", "none"], "no scale 'none'"),
        (["--scale", "smoke", "--ranks", "two"], "RANKS=two: not a number of ranks"),
    ],
)
def test_what_is_refused(untouched, capsys, arguments, said):
    assert cli.main(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mlegfn: ") and error.count("\n") == 1 and said in error


def test_a_dry_run_runs_nothing(toy, capsys):
    toy.edit("params.yaml", "stop: 12\n", "stop: 16\n")
    assert cli.main(["reproduce", "--scale", "smoke", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert (
        shown
        == "  pretrain@smoke: params.yaml images.smoke.pretrain changed\nsmoke: 1 of 2 stages would run\n"
    )
    assert toy.log("pretrain@smoke").count("\n=== 2") == 1


# ---------------------------------------------------------------- a cluster

# A training that is interrupted once: it saves within 0.2 s after SIGTERM, which may come several times.
SAVES = """
import os
import signal
import time
from pathlib import Path

from mlegfn.artifacts import write_text
from mlegfn.errors import Interrupted


def run(stage):
    print("job", os.environ["SLURM_JOB_ID"])
    if not Path("started.flag").exists():
        asked = []
        signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
        Path("started.flag").touch()
        while not asked:
            time.sleep(0.02)
        time.sleep(0.2)
        raise Interrupted("the state is saved")
    write_text(stage.data / "images.txt", "64 images")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="finds the process tree in /proc")
def test_a_slurm_job_that_is_interrupted_goes_on_in_another(tmp_path):
    """Through the profile, and sbatch, srun and sacct, which are fakes that run it here.

    SLURM signals every process of a job's step: all that has started below the job's own script.
    """
    toy = toys.make(tmp_path / "checkout")
    toy.write("fetch", SAVES)
    toy.edit("dvc.yaml", toys.DVC_YAML[toys.DVC_YAML.index("  pretrain:") :], "")
    profile = toy.root / "profile/config.yaml"
    profile.parent.mkdir()
    text = (REPOSITORY / "profiles/slurm/config.yaml").read_text()
    for name, seconds in (("slurm-init-seconds-before-status-checks", 1), ("latency-wait", 10)):
        text, count = re.subn(rf"^{name}: \d+$", f"{name}: {seconds}", text, flags=re.MULTILINE)
        assert count == 1
    profile.write_text(text)
    told = tmp_path / "told"
    path = f"{fake_slurm.install(told)}{os.pathsep}{toy.environment['PATH']}"
    with open(tmp_path / "said", "w") as said:
        run = subprocess.Popen(
            [sys.executable, "-m", "reproduction", "reproduce", "--scale", "smoke", "--profile", "profile"],
            cwd=toy.root,
            env={**toy.environment, "PATH": path},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        wait_for((toy.root / "started.flag").exists)
        batch = tree(int((told / "1.pid").read_text()))
        send(
            [
                pid
                for pid in batch
                if not {"srun", "slurm-jobstep"} & set(" ".join(command_line(pid)).split())
            ],
            signal.SIGTERM,
        )
        code = run.wait(120)
    assert code == 0, (tmp_path / "said").read_text() + (
        toy.root / "results/smoke/logs/snakemake.log"
    ).read_text()
    log = toy.log("fetch@smoke")
    assert re.findall(r"^job \d|^=== exit \d+", log, re.MULTILINE) == [
        "job 1",
        "=== exit 75",
        "job 2",
        "=== exit 0",
    ]
    calls = fake_slurm.submitted(told)
    assert len(calls) == 2
    for call in calls:
        assert fake_slurm.option(call, "--mem") == "500" and fake_slurm.option(call, "-t") == "60"
        assert fake_slurm.option(call, "--signal") == "TERM@120" and "--requeue" in call
        assert fake_slurm.option(call, "--gpus") is None


@pytest.mark.parametrize("count", [1, 2])
def test_a_gpu_stage_asks_slurm_for_what_its_meta_says(definitions, count):
    from types import SimpleNamespace

    submit = pytest.importorskip("snakemake_executor_plugin_slurm.submit_string")
    utils = pytest.importorskip("snakemake_executor_plugin_slurm.utils")
    stage = planned("cifar10_hour", ["pretrain@cifar10_hour"], count)["pretrain@cifar10_hour"]

    class Resources(SimpleNamespace):
        def get(self, name, default=None):
            return getattr(self, name, default)

    job = SimpleNamespace(threads=stage["threads"], resources=Resources(**stage["resources"]))
    options = SimpleNamespace(requeue=True, no_requeue=False, qos=None, reservation=None)
    names = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
    call = submit.get_submit_command(job, dict.fromkeys(names, ""), options) + utils.set_gres_string(job)
    for option in (f"--gpus={count}", "--mem 4000", "-t 480", "--requeue", "--cpus-per-task=1"):
        assert f" {option}" in call, call
