"""What can be said of the code without running it: types, lint, layout, which module may import which."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers.repository import REPOSITORY

CODE = ("src", "tests", "benchmarks", "examples")
CHECKS = {
    "types": ("mypy",),  # [tool.mypy] of pyproject.toml says strict, and of what
    "lint": ("ruff", "check", *CODE),
    "layout": ("ruff", "format", "--check", *CODE),
    "imports": ("lint-imports", "--no-cache"),  # [tool.importlinter]: the layers
    "Snakefile": ("snakefmt", "--check", "Snakefile"),
}
MATHEMATICS = ("src/mlegfn/objectives", "src/mlegfn/diffusion", "src/mlegfn/trajectory.py")
TOOLS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]


def run(program, *arguments):
    """Run a tool in the repository; mypy and ruff keep what they found there, in git-ignored caches."""
    return subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
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
    settings = TOOLS["mypy"]
    assert settings["strict"] is True and settings["files"] == ["src/mlegfn"]
    loose = {"ignore_errors", "disable_error_code", "allow_untyped_defs", "disallow_untyped_defs"}
    for block in (settings, *settings["overrides"]):
        assert not loose & set(block), block
    for file in sorted((REPOSITORY / "src/mlegfn").rglob("*.py")):
        mathematics = str(file.relative_to(REPOSITORY)).startswith(MATHEMATICS)
        for line in file.read_text().splitlines():
            assert "type: ignore" not in line or "type: ignore[" in line, f"{file}: {line}"
            assert "mypy: " not in line, f"{file}: {line}"
            if mathematics:
                assert "Any" not in line.split("#")[0].split(), f"{file}: {line}"


# ---------------------------------------------------------------- other people's modules are left as they are

ENGINES = {"dvc", "dvc_data", "dvc_objects", "snakemake"}  # only their documented commands are used
OURS = {"mlegfn", "reproduction"}


def imported(tree):
    """{name: what it stands for, ``torch.nn``} of everything that a file imports from other packages' modules."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                names[each.asname or each.name.partition(".")[0]] = (
                    each.name if each.asname else each.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    own = OURS | sys.stdlib_module_names
    return {name: module for name, module in names.items() if module.partition(".")[0] not in own}


def dotted(node):
    """``torch.backends.cudnn`` of an expression of names and dots; None of any other."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def replaced(source):
    """The attributes of other packages' modules that a source assigns, deletes or sets by ``setattr``."""
    tree, found = ast.parse(source), []
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            found.append(dotted(node))
        elif isinstance(node, ast.Call) and dotted(node.func) in ("setattr", "delattr"):
            found.append(dotted(node.args[0]))
    there = [path.split(".") for path in found if path]
    paths = [".".join([names[first], *rest]) for first, *rest in there if first in names]
    return [path for path in paths if not path.startswith("torch.backends.")]  # documented switches


def from_engines(source):
    """The modules of DVC and Snakemake that a source imports."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return [name for name in found if name.partition(".")[0] in ENGINES]


def test_nothing_of_other_packages_is_replaced_and_no_engine_is_imported():
    files = sorted((REPOSITORY / "src").rglob("*.py"))
    assert len(files) > 100
    wrong = {
        str(file.relative_to(REPOSITORY)): [*replaced(file.read_text()), *from_engines(file.read_text())]
        for file in files
    }
    assert {file: names for file, names in wrong.items() if names} == {}


@pytest.mark.parametrize(
    "source, seen",
    [
        ("import torch\ntorch._dynamo.config.recompile_limit = 9", ["torch._dynamo.config.recompile_limit"]),
        ("from torch import nn\ndef f():\n    nn.Module.compile = None", ["torch.nn.Module.compile"]),
        ("import torch.nn as nn\ndel nn.Linear", ["torch.nn.Linear"]),
        ("import yaml\nsetattr(yaml, 'load', 3)", ["yaml"]),
        ("import torch\ntorch.backends.cudnn.benchmark, x = True, 1", []),
        ("import torch\nclass A:\n    def __init__(self):\n        self.x = torch.zeros(3)", []),
        ("from mlegfn import randomness\nrandomness.x = 3", []),
    ],
)
def test_replacements_are_seen(source, seen):
    assert replaced(source) == seen


def test_engines_are_seen():
    assert from_engines("def f():\n    from dvc.repo import Repo\n    import dvclive, snakemake.api") == [
        "dvc.repo",
        "snakemake.api",
    ]
