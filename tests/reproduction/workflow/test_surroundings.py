"""Where a stage ran: git's state, memory, versions."""

import importlib.metadata
import os
import subprocess
import sys

import pytest
from helpers.repository import REPOSITORY

from reproduction.workflow import surroundings

AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@test")


def test_dirty_is_what_can_determine_a_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert surroundings.git_state() == (None, None)

    def git(*arguments):
        return subprocess.run(["git", *AUTHOR, *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    assert surroundings.git_state() == (None, None)  # no commit yet
    for path in ("src/a.py", "params.yaml", "claims/a.yaml", "results/x.json", "dvc.lock", "README.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("1\n")
    git("add", "-A")
    git("commit", "-qm", "all")
    commit = git("rev-parse", "HEAD").strip()
    for path in ("results/x.json", "dvc.lock", "README.md", "results/new.json"):
        (tmp_path / path).write_text("2\n")
    assert surroundings.git_state() == (commit, False)
    for path in ("src/a.py", "params.yaml", "claims/a.yaml", "src/new.py"):
        before = (tmp_path / path).read_text() if (tmp_path / path).exists() else None
        (tmp_path / path).write_text("2\n")
        assert surroundings.git_state() == (commit, True), path
        (tmp_path / path).unlink() if before is None else (tmp_path / path).write_text(before)
    (tmp_path / ".git/index.lock").touch()  # a commit is going on
    assert surroundings.git_state() == (commit, False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert surroundings.git_state() == (None, None)


CHILD = """
import sys
from reproduction.workflow import surroundings
content = bytearray(b"x" * (int(sys.argv[1]) << 20))
del content
print(surroundings.peak_memory_mib())
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux says it there")
def test_memory_is_the_process_own():
    """Not that of a big process above it, and what was freed counts."""
    ours = bytearray(b"x" * (400 << 20))

    def child(size):
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
        command = [sys.executable, "-c", CHILD, str(size)]
        return float(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)

    small, large = child(0), child(200)
    assert len(ours) and small < 200 and 200 <= large - small < 450


def test_cuda_of_the_installed_torch():
    import torch

    assert surroundings.torch_cuda() == torch.version.cuda


def test_versions_are_those_that_python_says(monkeypatch):
    """Read from the head of their metadata, as parsing all of it takes a stage longer."""
    monkeypatch.chdir(REPOSITORY)
    found = surroundings.packages()
    found.pop("torch-cuda", None)
    assert len(found) > 20 and found == {name: importlib.metadata.version(name) for name in found}
