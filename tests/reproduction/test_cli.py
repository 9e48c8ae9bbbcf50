"""The command line: what a user sees when something is wrong, and that it starts at once."""

import argparse
import errno
import os
import shutil
import subprocess
import sys
from importlib import import_module
from unittest.mock import MagicMock

import pytest
from helpers.repository import REPOSITORY

import mlegfn
from mlegfn.errors import UserError
from reproduction import arguments, cli

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}


def parsers(parser=None):
    """{command: its parser}."""
    actions = (parser or arguments.parser())._actions
    return next(action.choices for action in actions if isinstance(action, argparse._SubParsersAction))


def test_import_is_light():
    """`mlegfn` answers before anything heavy is imported."""
    code = "import sys, reproduction.cli; sys.exit(bool({'torch', 'dvc', 'pydantic', 'numpy', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT).returncode == 0


class Functions:
    """Stands in for a module: its functions are looked up and not called."""

    def __init__(self, name):
        self.module = import_module(name)

    def __getattr__(self, name):
        assert callable(getattr(self.module, name)), f"{self.module.__name__}.{name}"
        return lambda *arguments: None


def test_every_command_has_help_and_a_function(monkeypatch):
    monkeypatch.setattr(arguments, "import_module", Functions)
    for name, parser in parsers().items():
        assert parser.description and parser.format_help(), name
        if name != "finetune":  # which looks at the settings first
            options = MagicMock(spec_set=[action.dest for action in parser._actions])
            assert parser.get_default("run")(options) is None, name


@pytest.mark.parametrize("command", [["status"], ["doctor"], ["reproduce"], ["verify"], ["clean-scale"]])
def test_user_errors_are_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command, "--scale", "smoke"]) == 2
    outside = capsys.readouterr().err
    assert outside == "mlegfn: params.yaml: not found; run from the repository's root, where it lies\n"
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "params", tmp_path / "params")
    assert cli.main([*command, "--scale", "none"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mlegfn: params.yaml: no scale 'none'; there are") and error.count("\n") == 1


def test_every_broken_setting_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / "params", tmp_path / "params")
    text = (REPOSITORY / "params.yaml").read_text().replace("train_limit: 64", "train_limit: 0")
    (tmp_path / "params.yaml").write_text(
        text.replace("planar_scales: [smoke, ", "planar_scales: [smoke, smoke, ")
    )
    assert cli.main(["status", "--scale", "smoke"]) == 2
    lines = capsys.readouterr().err.splitlines()
    said = [line.removeprefix("mlegfn: ") for line in lines]
    for start in (
        "planar_scales: names something twice",
        "images.smoke.data.train_limit: expected an integer ≥ 1",
    ):
        assert any(line.startswith(f"params.yaml: {start}") for line in said)


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "the following arguments are required: COMMAND"),
        (["bake"], "invalid choice: 'bake'"),
        (["reproduce", "--cores", "0"], "expected a whole number, from 1 to 1000000000, got '0'"),
        (["reproduce", "--cores", "two"], "expected a whole number"),
        (["nll", "x", "--levels", "300"], "expected a whole number, from 2 to 256, got '300'"),
        (
            ["finetune", "x", "--out", "y", "--images", "z", "--lr", "-1"],
            "expected a number, above 0, got '-1'",
        ),
        (["clean-scale"], "required: --scale"),
    ],
)
def test_words_that_make_no_command(capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        arguments.parser().parse_args(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


@pytest.fixture
def command(monkeypatch):
    """Let the command line call a function of the test's own; returns the exit code."""

    def run(function, lower=None):
        options = argparse.Namespace(run=function, **({"lower": lower} if lower else {}))
        monkeypatch.setattr(arguments, "parser", lambda: argparse.Namespace(parse_args=lambda words: options))
        return cli.main([])

    return run


@pytest.mark.parametrize(
    "error, code, said",
    [
        (UserError("data/x: altered"), 2, "mlegfn: data/x: altered\n"),
        (OSError(errno.ENOSPC, "No space left on device", "results/y"), 2, "mlegfn: results/y: no space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "results/y"), 2, "mlegfn: results/y: no space left"),
        (OSError(errno.EFBIG, "File too large", "results/y"), 2, "ulimit -f"),
        (OSError(errno.EIO, "Input/output error", "results/y"), 2, "the disk failed to read or write"),
        (PermissionError(errno.EACCES, "Permission denied", "results/z"), 2, "mlegfn: results/z: not permitted"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "results/z"), 2, "mlegfn: results/z: cannot be used"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "a file: no space left"),
        (RuntimeError("[Errno 28] No space left on device: '/cache/a'"), 2, "mlegfn: /cache/a: no space left"),
        (shutil.Error([("a", "b", "[Errno 13] Permission denied: 'x/b'")]), 2, "mlegfn: x/b: not permitted"),
        (MemoryError(), 2, "mlegfn: out of memory; lower `batch`"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "mlegfn: out of memory"),
        (KeyboardInterrupt(), 130, "mlegfn: interrupted"),
    ],
)  # fmt: skip
def test_what_the_machine_is_to_blame_for_has_no_traceback(command, capsys, error, code, said):
    def run(_):
        raise error

    assert command(run) == code
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1


def test_a_bug_has_a_traceback(command):
    def run(_):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        command(run)


def test_what_to_lower_is_the_commands_to_say(command, capsys):
    def run(_):
        raise MemoryError

    assert command(run, lower="--batch") == 2
    assert capsys.readouterr().err == "mlegfn: out of memory; lower --batch\n"


def test_exit_codes_are_those_of_the_commands(command):
    assert command(lambda _: None) == 0 and command(lambda _: 0) == 0 and command(lambda _: 75) == 75


def test_a_reader_that_leaves_gets_no_traceback():
    """`mlegfn provenance … | head -1`: what is left unread is no error."""
    many = "import sys; from reproduction import cli, arguments; from argparse import Namespace as N\n"
    many += "print_all = lambda _: [print('x' * 100) for _ in range(10000)] and None\n"
    many += "arguments.parser = lambda: N(parse_args=lambda words: N(run=print_all)); sys.exit(cli.main([]))"
    reader = subprocess.run(
        f'"{sys.executable}" -c "$MANY" | head -1',
        shell=True,
        env={**ENVIRONMENT, "MANY": many},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert reader.stdout == "x" * 100 + "\n" and reader.stderr == ""


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "reproduction", "--help"], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("usage: mlegfn")


def test_the_version_is_the_library_s(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"mlegfn {mlegfn.__version__}\n"
