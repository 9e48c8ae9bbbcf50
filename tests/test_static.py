"""What can be said of the code without running it: types, lint, layout."""

import subprocess
import sys
import tomllib

import pytest
from conftest import REPOSITORY

CODE = ("src", "tests", "benchmarks", "examples")
CHECKS = {
    "types": ("mypy",),  # [tool.mypy] of pyproject.toml says strict, and of what
    "lint": ("ruff", "check", *CODE),
    "layout": ("ruff", "format", "--check", *CODE),
}


def run(*command):
    """Run a module of Python in the repository; mypy and ruff keep what they found there, in git-ignored caches."""
    command = [sys.executable, "-m", *map(str, command)]
    return subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize("command", CHECKS.values(), ids=CHECKS)
def test_static(command):
    done = run(*command)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "wrong, why", [("def f(x) -> int:\n    return 1\n", "no-untyped-def"), ("X: int = ''", "assignment")]
)
def test_the_check_of_types_finds_what_is_wrong(wrong, why, tmp_path):
    path = "src/mlegfn/objectives/bounds.py"
    (tmp_path / "bounds.py").write_text((REPOSITORY / path).read_text() + wrong)
    done = run("mypy", "--shadow-file", path, tmp_path / "bounds.py")
    assert done.returncode == 1 and f"[{why}]" in done.stdout and "Found 1 error " in done.stdout


def test_types_are_strict_where_it_was_promised():
    """A setting that weakens the check, or a comment that silences all of it, would pass unseen."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] is True
    assert set(settings["files"]) == {
        "src/mlegfn/objectives",
        "src/mlegfn/diffusion",
        "src/mlegfn/trajectory.py",
    }
    loose = {"ignore_errors", "disable_error_code", "allow_untyped_defs", "disallow_untyped_defs"}
    for block in (settings, *settings["overrides"]):
        assert not loose & set(block), block
    for entry in settings["files"]:
        path = REPOSITORY / entry
        for file in [path] if path.suffix else sorted(path.glob("*.py")):
            for line in file.read_text().splitlines():
                assert "type: ignore" not in line or "type: ignore[" in line, f"{file}: {line}"
                assert "mypy: " not in line and "Any" not in line.split("#")[0].split(), f"{file}: {line}"
