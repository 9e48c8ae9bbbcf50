"""The command line: what a user sees when something is wrong, and that it starts at once."""

import errno
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from mlegfn import cli
from mlegfn.errors import UserError
from mlegfn.pipeline import failures, progress, stage


@pytest.fixture
def repository(monkeypatch, tmp_path):
    """The settings alone, in a folder of their own."""
    for name in ("params.yaml", "graph.json", "dvc.yaml"):
        (tmp_path / name).write_text((REPOSITORY / name).read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def toy_stage(monkeypatch):
    """Let ``mlegfn stage fetch --scale smoke`` call a function of the test's own."""

    def use(function):
        class Module:
            run = staticmethod(function)

        monkeypatch.setattr(stage.importlib, "import_module", lambda name: Module)

    return use


def fetch():
    return cli.main(["stage", "fetch", "--scale", "smoke"])


def log(repository):
    return (repository / "results/smoke/logs/fetch@smoke.log").read_text()


def test_import_is_light():
    """`mlegfn` answers before anything heavy is imported."""
    code = "import sys, mlegfn.cli; sys.exit(bool({'torch', 'dvc', 'pydantic', 'numpy'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["stage", "fetch", "--scale", "none"], "no scale 'none'"),
        (["stage", "none", "--scale", "smoke"], "no such stage"),
        (["stage", "pretrain", "--scale", "smoke", "--step", "5"], "pretrain@smoke-5"),
        (["plan", "--scale", "none"], "no scale 'none'"),
        (["status", "--scale", "none"], "no scale 'none'"),
        (["doctor", "--scale", "none"], "no scale 'none'"),
        (["reproduce", "--scale", "none"], "no scale 'none'"),
        (["clean-scale", "--scale", "../.."], "not the name of a scale"),
    ],
)
def test_user_errors_are_one_line_and_exit_code_2(repository, capsys, arguments, said):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("mlegfn: ") and error.count("\n") == 1 and said in error


def test_outside_the_repository(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["graph"]) == 2
    assert "params.yaml" in capsys.readouterr().err


def test_stale_graph_names_the_command(repository, capsys):
    (repository / "graph.json").write_text("{}")
    assert fetch() == 2
    assert "run `mlegfn graph`" in capsys.readouterr().err
    assert cli.main(["graph"]) == 0
    assert cli.main(["graph", "--check"]) == 0


def test_a_stage_gets_its_settings_and_is_logged(repository, capsys, toy_stage):
    def run(scale_name, scale, **key):
        print(scale_name, scale.data.train_limit, key)
        print("a warning", file=sys.stderr)

    toy_stage(run)
    assert fetch() == 0
    shown = capsys.readouterr()
    assert shown.out == "smoke 64 {}\n" and shown.err == "a warning\n"
    assert "smoke 64 {}\na warning\n=== exit 0" in log(repository)


@pytest.mark.parametrize(
    "error, said",
    [
        (UserError("data/x: altered; fetch it again"), "data/x: altered; fetch it again"),
        (OSError(errno.ENOSPC, "No space left on device", "results/y"), "results/y: no space left"),
        (PermissionError(errno.EACCES, "Permission denied", "results/z"), "results/z: not permitted"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_a_user_can_mend_has_no_traceback(repository, capsys, toy_stage, error, said):
    def run(*_):
        raise error

    toy_stage(run)
    assert fetch() == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1
    assert said in log(repository) and "=== exit 2" in log(repository)


def test_what_a_user_cannot_mend_has_one(repository, capsys, toy_stage):
    def run(*_):
        raise RuntimeError("a bug")

    toy_stage(run)
    assert fetch() == 1
    assert "Traceback" in capsys.readouterr().err and "a bug" in log(repository)


@pytest.mark.parametrize(
    "stage_name, key, name",
    [
        ("fetch", {}, "fetch@s"),
        ("pretrain", {"step": 4}, "pretrain@s-4"),
        ("finetune", {"step": 4, "arm": "tbc", "seed": 0}, "finetune@s-4-tbc-0"),
        ("nll", {"step": 4, "arm": "baseline"}, "nll@s-baseline-4"),
        ("nll", {"step": 4, "arm": "vlb", "seed": 1}, "nll@s-4-vlb-1"),
        ("planar", {"problem": "moons"}, "planar@s-moons"),
        ("family", {"family": "hvae"}, "family@s-hvae"),
    ],
)
def test_stage_names(stage_name, key, name):
    assert stage.stage_name(stage_name, "s", key) == name


def test_progress_counts_and_estimates(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Progress(
        {"nll@s-1", "nll@s-2", "planar@s-moons"}, ["nll@s-1", "nll@s-2", "planar@s-moons"], 1
    ) as bar:
        assert bar.remaining() is None
        bar.hear("localrule nll@s-1:\n")
        now[0] = 10.0
        bar.hear("Finished jobid: 3 (Rule: nll@s-1)\n")
        assert bar.remaining() == pytest.approx(10 + progress.WEIGHTS["planar"] * 10)
        bar.hear("rule planar@s-moons:\n")
        bar.hear("Error in rule planar@s-moons:\n")
    assert bar.failed == ["planar@s-moons"]
    assert "[1/3] nll@s-1" in capsys.readouterr().err


def test_last_attempt_in_a_log(tmp_path):
    path = tmp_path / "x.log"
    assert failures.last_attempt(path) == (None, [])
    path.write_text(
        "\n=== 2026-01-01 x\nold\n=== exit 0 after 1 s\n\n=== 2026-01-02 x\n 50%\r100%\nbad\n=== exit 2 after 1 s\n"
    )
    assert failures.last_attempt(path) == (2, ["100%", "bad"])


def test_settings_that_change_while_a_stage_runs_are_not_recorded(repository, toy_stage, capsys):
    """DVC would record the new settings beside the old result."""

    def edited(*_):
        text = (repository / "params.yaml").read_text()
        changed = text.replace("train_limit: 64", "train_limit: 63")
        assert changed != text
        (repository / "params.yaml").write_text(changed)

    toy_stage(edited)
    assert fetch() == 2
    assert "changed while it ran" in capsys.readouterr().err


def test_settings_of_others_may_change_while_a_stage_runs(repository, toy_stage):
    def edited(*_):
        text = (repository / "params.yaml").read_text()
        (repository / "params.yaml").write_text(text.replace("columns: 9", "columns: 8"))

    toy_stage(edited)
    assert fetch() == 0


def test_a_reader_that_leaves_gets_no_traceback():
    """`mlegfn plan … | head -1`: what is left unread is no error."""
    command = f"{sys.executable} -m mlegfn plan --scale cifar10 | head -1"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(
        command, shell=True, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("#!/bin/sh") and "Traceback" not in done.stderr
