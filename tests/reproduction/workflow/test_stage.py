"""`mlegfn stage`: settings in, everything printed kept in a log, one exit code for each way to end."""

import errno
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from helpers import toy as toys
from helpers.processes import wait_for

from mlegfn.errors import Interrupted, UserError
from reproduction import cli
from reproduction.workflow import provenance, running, stage


def module(run):
    """Stands in for importlib, whose every module has this function."""
    return SimpleNamespace(import_module=lambda name: SimpleNamespace(run=run))


@pytest.fixture
def fetch(untouched, monkeypatch):
    """Run the stage fetch@smoke, whose module does what the test says; returns the exit code."""

    def run(function):
        def made(given, *item):
            given.data.mkdir(parents=True, exist_ok=True)
            return function(given, *item)

        monkeypatch.setattr(stage, "importlib", module(made))
        return stage.run("images.fetch", "smoke")

    run.log = lambda: untouched.log("fetch@smoke")
    run.toy = untouched
    return run


def test_a_stage_gets_its_settings_and_is_logged(fetch, capsys):
    def run(given):
        print(given.name, given.settings.data.train_limit)
        print("a warning", file=sys.stderr)
        assert running.names(["fetch@smoke", "pretrain@smoke"]) == ["fetch@smoke"], (
            "one that runs holds its log"
        )

    assert fetch(run) == 0
    shown = capsys.readouterr()
    warning, note = shown.err.splitlines()  # this checkout has no git
    assert shown.out == "fetch@smoke 64\n" and warning == "a warning"
    assert note.startswith("fetch@smoke: git cannot name the commit")
    assert re.search(
        r"\n=== 2.* \(process \d+\)\nfetch@smoke 64\na warning\nfetch@smoke: git .*\n=== exit 0 after ",
        fetch.log(),
    )
    assert running.names(["fetch@smoke"]) == []
    assert provenance.of_stage("fetch@smoke")["outputs"].keys() == {"data/smoke"}


@pytest.mark.parametrize(
    "error, code, said",
    [
        (UserError("data/x: altered; fetch it again"), 2, "mlegfn: data/x: altered; fetch it again\n"),
        (OSError(errno.ENOSPC, "No space left on device", "results/y"), 2, "results/y: no space left"),
        (PermissionError(errno.EACCES, "Permission denied", "results/z"), 2, "results/z: not permitted"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "no space left"),
        (MemoryError(), 2, "out of memory; lower `batch`"),
        (FloatingPointError("the loss at step 3 is not finite"), 2, "fetch@smoke: the loss at step 3"),
        (ValueError("Out of range float values are not JSON compliant: nan"), 2, "is not finite: a training has diverged"),
        (ValueError("definite"), 1, "Traceback"),
        (RuntimeError("a bug"), 1, "Traceback"),
        (Interrupted("the state is saved"), 75, "mlegfn: the state is saved\n"),
        (KeyboardInterrupt(), 130, "mlegfn: interrupted"),
    ],
)  # fmt: skip
def test_how_a_stage_can_end(fetch, capsys, error, code, said):
    def run(given):
        raise error

    assert fetch(run) == code
    shown = capsys.readouterr().err
    assert said in shown and (shown.count("\n") == 1 or "Traceback" in said)
    assert said in fetch.log() and f"=== exit {code} after" in fetch.log()
    assert provenance.of_stage("fetch@smoke") is None, "only of what has succeeded"


def test_parts_that_nothing_asks_for_are_deleted_only_after_success(fetch):
    def with_parts(*names, error=None):
        def run(given):
            for name in names:
                part = given.part(name, [given.data / name], {})
                if not part.finished:
                    (given.data / name).touch()
                    part.finish()
            if error:
                raise error

        return run

    def made():
        return sorted(os.listdir(fetch.toy.root / "data/smoke"))

    assert fetch(with_parts("a", "b")) == 0 and made() == ["a", "b"]
    assert fetch(with_parts("b", error=UserError("x"))) == 2 and made() == ["a", "b"]
    assert fetch(with_parts("b", "c")) == 0 and made() == ["b", "c"]


@pytest.mark.parametrize(
    "path, before, after, said",
    [
        (
            "params.yaml",
            "train_limit: 64",
            "train_limit: 63",
            "fetch@smoke: its settings changed while it ran",
        ),
        ("params.yaml", "train_limit: 64", "train_limit: soon", "train_limit: expected an integer"),
        (
            "src/reproduction/images/fetch.py",
            "fetched",
            "done",
            "fetch@smoke: its source code changed while it ran",
        ),
    ],
)
def test_what_changes_while_a_stage_runs_is_not_recorded(fetch, capsys, path, before, after, said):
    """DVC would record the new settings beside the old result."""
    assert fetch(lambda given: fetch.toy.edit(path, before, after)) == 2
    assert said in capsys.readouterr().err


def test_what_others_depend_on_may_change_while_a_stage_runs(fetch):
    def run(given):
        fetch.toy.edit("params.yaml", "images: smoke, station: spiral", "images: digits, station: spiral")
        fetch.toy.write("pretrain", "")

    assert fetch(run) == 0


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["images.fetch", "none"], "no scale 'none'; there are"),
        (["images.report", "smoke"], "no stage of dvc.yaml runs it"),
        (["images.fetch", "smoke", "tbc2"], "fetch@smoke-tbc2: params.yaml has no such stage"),
    ],
)
def test_stages_that_are_not_there(untouched, capsys, arguments, said):
    assert cli.main(["stage", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mlegfn: ") and error.count("\n") == 1 and said in error
    assert not (untouched.root / "results").exists()


def test_a_stage_that_needs_a_gpu_gets_one_of_its_own(untouched, monkeypatch):
    seen = []
    see = module(lambda given: seen.append(os.environ.get("CUDA_VISIBLE_DEVICES")))
    monkeypatch.setattr(stage, "importlib", see)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a stage sets it for good; so it is put back here
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("MLEGFN_GPUS", "x,y")
    monkeypatch.setenv("TMPDIR", str(untouched.root))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert stage.run("images.fetch", "cifar10_hour") == 0, "it computes nothing"
    monkeypatch.setenv("MLEGFN_ALLOW_CPU", "1")
    assert stage.run("images.pretrain", "cifar10_hour") == 0
    monkeypatch.delenv("MLEGFN_ALLOW_CPU")
    assert stage.run("images.pretrain", "cifar10_hour") == 0
    assert seen == [None, None, "x"]


SLEEPS = """
import time
from pathlib import Path


def run(stage):
    Path("started.flag").touch()
    time.sleep(60)
"""


def test_a_stage_without_a_handler_says_that_it_was_interrupted(tmp_path):
    toy = toys.make(tmp_path / "checkout")
    toy.write("fetch", SLEEPS)
    process = subprocess.Popen(
        ["mlegfn", "stage", "images.fetch", "smoke"],
        cwd=toy.root,
        env=toy.environment,
        start_new_session=True,
    )
    wait_for((toy.root / "started.flag").exists)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(30) == 75
    assert "=== exit 75" in toy.log("fetch@smoke")
