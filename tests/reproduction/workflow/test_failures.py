"""Why stages failed, as a user reads it, and the exit code that says whether running again helps."""

import time

import pytest

from reproduction.workflow import failures
from reproduction.workflow.running import log_path


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Write the log of a stage, or without a name that of Snakemake; returns its path."""
    monkeypatch.chdir(tmp_path)

    def write(text, name=None):
        path = log_path(name) if name else tmp_path / "snakemake.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def attempt(end, *lines):
    return "\n".join(["", "=== 2026-01-02 00:00:00 mlegfn stage x", *lines, *([end] if end else []), ""])


def test_the_last_attempt_in_a_log(logs, tmp_path):
    assert failures.last_attempt(tmp_path / "none") == (None, [])
    path = logs(attempt("=== exit 0 after 1 s", "old") + attempt("=== exit 2 after 1 s", " 50%\r100%", "bad"))
    assert failures.last_attempt(path) == (2, ["100%", "bad"])
    path = logs(attempt("=== exit 0 after 1 s") + attempt(None, "step 3"))
    assert failures.last_attempt(path) == (None, ["step 3"])


BUG, MENDABLE, SAVED = "=== exit 1 after 1 s", "=== exit 2 after 1 s", "=== exit 75 after 1 s"


@pytest.mark.parametrize(
    "ends, code",
    [
        ({"a@s": MENDABLE}, 2),
        ({"a@s": MENDABLE, "b@s": MENDABLE}, 2),
        ({"a@s": BUG}, 1),
        ({"a@s": SAVED}, 75),
        ({"a@s": None}, 75),  # killed without a word
        ({"a@s": SAVED, "b@s": None}, 75),
        ({"a@s": MENDABLE, "b@s": SAVED}, 1),
    ],
)
def test_one_exit_code_for_all_that_failed(logs, ends, code, capsys):
    for name, end in ends.items():
        logs(attempt(end, "mlegfn: the last line"), name)
    assert failures.explain(["a@s", "b@s", "done@s"][: len(ends)], ["done@s"], logs(""), time.time()) == code
    said = capsys.readouterr().err
    assert said.count("mlegfn: the last line") == len(ends) and "the same command goes on from there" in said


def test_stages_that_waited_for_a_failed_one_are_not_blamed(logs, capsys):
    logs(attempt(MENDABLE, "mlegfn: bad"), "a@s")
    assert failures.explain(["a@s", "waits@s"], [], logs(""), time.time()) == 2
    assert "waits@s" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "said, code",
    [
        ("ERROR: failed to reproduce 'a@s': [Errno 28] No space left on device: '/x/cache'", 2),
        ("ERROR: failed to reproduce 'a@s': missing data 'source': data/x", 2),
        ("ERROR: failed to reproduce 'a@s': output 'results/x' does not exist", 1),
    ],
)
def test_what_dvc_says_of_a_stage_that_did_well(logs, said, code, capsys):
    logs(attempt("=== exit 0 after 1 s"), "a@s")
    assert failures.explain(["a@s"], [], logs(f"{said}\n"), time.time()) == code
    assert "a@s failed" in capsys.readouterr().err


def test_what_snakemake_says_where_no_stage_failed(logs, capsys):
    assert failures.explain(["a@s"], [], logs("WorkflowError:\nno such executor\n"), time.time()) == 1
    assert "no such executor" in capsys.readouterr().err
    assert (
        failures.explain(
            ["a@s"], [], logs("OSError: [Errno 28] No space left on device: 'x/y'\n"), time.time()
        )
        == 2
    )
    assert "x/y: no space left" in capsys.readouterr().err
