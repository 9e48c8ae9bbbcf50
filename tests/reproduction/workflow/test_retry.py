"""Whether another attempt at a stage makes sense."""

import os

import pytest

from mlegfn.errors import UserError
from reproduction.workflow import retry
from reproduction.workflow.running import log_path

HEAD = "\n=== 2026-01-01 x\n"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.json").touch()
    os.utime("plan.json", (1e9, 1e9))
    return "plan.json"


def log(text, name="fetch@s_1"):
    path = log_path(name)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text, allowed",
    [
        (None, True),  # it died before its first word
        (f"{HEAD}step 3\n", True),
        (f"{HEAD}=== exit 75 after 1.0 s\n", True),
        (f"{HEAD}=== exit 1 after 1.0 s\n{HEAD}", True),
        (f"{HEAD}=== exit 75 after 1.0 s\n{HEAD}=== exit 2 after 1.0 s\n", False),
        *((f"{HEAD}mlegfn: no\n=== exit {code} after 1.0 s\n", False) for code in (0, 1, 2, 130)),
    ],
)
def test_what_may_be_tried_again(plan, text, allowed):
    if text is not None:
        log(text)
    if allowed:
        assert retry.check("fetch@s_1", plan) == 0
    else:
        with pytest.raises(UserError, match="ended with exit code"):
            retry.check("fetch@s_1", plan)


def test_how_an_earlier_run_ended_does_not_matter(plan):
    """A node is lost before the stage has begun: its log still says how last week's run failed."""
    os.utime(log(f"{HEAD}=== exit 2 after 1.0 s\n"), (9e8, 9e8))
    assert retry.check("fetch@s_1", plan) == 0
