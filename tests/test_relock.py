"""`mlegfn relock`: edits that cannot matter are recorded without a run, and no others."""

import ast
import copy
import json
import subprocess

import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from mlegfn.errors import UserError
from mlegfn.pipeline import engine, hashes, introspection, lockfile, program, relock

BEFORE = '''"""A module."""

import math
from dataclasses import dataclass
from functools import cache

SIZE = 3


@dataclass
class Point:
    """A point."""

    x: float
    y: float = 0.0


def scaled(point, factor=2.0, *rest, **more):
    """A point further out."""
    total = [1, 2]
    total.append(math.pi)
    "no docstring"
    if factor < 0:
        raise ValueError("negative")
    return Point(factor * point.x, point.y)


@cache
def size():
    return SIZE


async def wait(x):
    def inside(y):
        return x + y

    return inside
'''

SAME = {
    "a comment": ("SIZE = 3", "SIZE = 3  # three"),
    "layout": ("total = [1, 2]", "total = [\n        1,\n        2,\n    ]"),
    "a module's docstring": ('"""A module."""', '"""Another."""'),
    "a class's docstring": ('"""A point."""', '"""Two numbers."""'),
    "a function's docstring": ('"""A point further out."""', '"""Longer.\n\n    Much.\n    """'),
    "a docstring less": ('    """A point further out."""\n', ""),
    "a parameter's annotation": (
        "def scaled(point, factor=2.0",
        "def scaled(point: Point, factor: float = 2.0",
    ),
    "a rest's annotation": ("*rest, **more)", "*rest: int, **more: str) -> Point"),
    "a method's return": ("def size():", "def size() -> int:"),
    "an inner function's annotation": ("def inside(y):", "def inside(y: int) -> int:"),
    "a local variable's annotation": ("total = [1, 2]", "total: list[float] = [1, 2]"),
    "a local variable declared": ("    total = [1, 2]", "    total: list[float]\n    total = [1, 2]"),
    "a module variable's annotation": ("SIZE = 3", "SIZE: int = 3"),
    "typing imports": ("import math\n", "import math\nfrom collections.abc import Callable\nimport typing\n"),
    "a block for type checkers": (
        "\nSIZE = 3",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import torch\n\n    class P: ...\n\nSIZE = 3",
    ),
    "a declaration for all others": (
        "\nSIZE = 3",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import torch\nelse:\n    SIZE: int\n\nSIZE = 3",
    ),
    "quoted annotations": ("def size():", 'def size() -> "list[torch.Tensor] | None":'),
}

OTHER = {
    "a constant": ("SIZE = 3", "SIZE = 4"),
    "a type of constant": ("SIZE = 3", "SIZE = 3.0"),
    "a default": ("factor=2.0", "factor=2.5"),
    "a default with an annotation": ("factor=2.0", "factor: float = 2.5"),
    "an order": ("total = [1, 2]\n    total.append(math.pi)", "total.append(math.pi)\n    total = [1, 2]"),
    "an order of imports": (
        "import math\nfrom dataclasses import dataclass",
        "from dataclasses import dataclass\nimport math",
    ),
    "a decorator": ("@cache\n", ""),
    "an argument of a decorator": ("@dataclass\n", "@dataclass(frozen=True)\n"),
    "a class's annotation": ("x: float", "x: int"),
    "a field": ("y: float = 0.0", "y = 0.0"),
    "a string": ('"no docstring"', '"still none"'),
    "a message": ('ValueError("negative")', 'ValueError("below zero")'),
    "a name": ("def inside(y):\n        return x + y", "def inside(z):\n        return x + z"),
    "an import": ("import math\n", "import math\nimport torch\n"),
    "a statement in a docstring's place": ('    """A point further out."""', "    print()"),
    "an annotation that does something": ("def size():", "def size() -> print(1):"),
    "an annotation of a name that there is not": ("def size():", "def size() -> Tensor:"),
    "an annotation that makes a name local": ("    return SIZE", "    SIZE: int\n    return SIZE"),
    "a typing import that is used": ("import math\n", "import math\nfrom typing import Text as dataclass\n"),
    "postponed annotations of a class": (
        '"""A module."""\n',
        '"""A module."""\nfrom __future__ import annotations\n',
    ),
    "a block that only looks like one": (
        "\nSIZE = 3",
        "TYPE_CHECKING = 1\nif TYPE_CHECKING:\n    import torch\n\nSIZE = 3",
    ),
    "a type checker's other branch": (
        "\nSIZE = 3",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import torch\nelse:\n    print()\n\nSIZE = 3",
    ),
}


def edited(edit):
    before, after = edit
    assert BEFORE.count(before) == 1
    return BEFORE.replace(before, after).encode()


@pytest.mark.parametrize("edit", SAME.values(), ids=SAME)
def test_the_same_program(edit):
    assert program.difference(BEFORE.encode(), edited(edit)) is None
    assert program.difference(edited(edit), BEFORE.encode()) is None


@pytest.mark.parametrize("edit", OTHER.values(), ids=OTHER)
def test_another_program(edit):
    after = edited(edit)
    line, _, how = program.difference(BEFORE.encode(), after).partition(": ")
    lines = after.decode().splitlines()
    changed = [n for n, text in enumerate(lines, 1) if text not in BEFORE.splitlines()] or range(1, 99)
    assert changed[0] - 3 <= int(line) <= changed[-1] + 3 and ", was " in how
    assert program.difference(after, BEFORE.encode())


def test_postponed_annotations_of_functions_alone_are_the_same_program():
    before, after = (
        b"def f(x: int):\n    return x\n",
        b"from __future__ import annotations\ndef f(x: str):\n    return x\n",
    )
    assert program.difference(before, after) is None
    keyed = b"from functools import singledispatch\n@singledispatch\n"
    assert "," in program.difference(keyed + before, keyed + after.splitlines(True)[1] + b"    return x\n")


@pytest.mark.parametrize(
    "reader, read",
    [
        ("help = cls.__doc__", introspection.DOCSTRINGS),
        ("import inspect; inspect.getdoc(f)", introspection.DOCSTRINGS),
        ('getattr(f, "__doc__")', introspection.DOCSTRINGS),
        ("f.__annotations__", introspection.ANNOTATIONS),
        ("from typing import get_type_hints", introspection.ANNOTATIONS),
        ("inspect.signature(f)", introspection.ANNOTATIONS),
        ("@functools.singledispatch\ndef g(x): ...", introspection.ANNOTATIONS),
        ("from pydantic import validate_call", introspection.ANNOTATIONS),
        ("@torch.jit.script\ndef g(x): ...", introspection.ANNOTATIONS),
        ("inspect.getsource(f)", introspection.LINES),
        ("f.__code__.co_firstlineno", introspection.LINES),
        ("globals()", introspection.NAMES),
        ("import sys; vars(sys.modules[name])", introspection.NAMES),
        ("import a; dir(a.b)", introspection.NAMES),
        ("from a import b; b.__dict__", introspection.NAMES),
    ],
)
def test_what_a_program_asks_about_itself_is_part_of_it(reader, read):
    assert introspection.reads(reader.encode()) == {read}
    before = BEFORE.encode()
    what = {
        introspection.DOCSTRINGS: "a class's docstring",
        introspection.ANNOTATIONS: "a parameter's annotation",
        introspection.LINES: "a comment",
        introspection.NAMES: "typing imports",
    }
    for each, name in what.items():
        found = program.difference(before, edited(SAME[name]), frozenset({read}))
        assert bool(found) == (each == read or read == introspection.LINES), name
        assert not found or read in found or "text differs" in found


def test_objects_attributes_are_not_a_modules_names():
    assert (
        introspection.reads(
            b"def f(self, counts):\n    return vars(self.counts), vars(counts), 'not __doc__'\n"
        )
        == set()
    )


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_change_anywhere_in_a_real_program_is_not_missed(data):
    """Any constant, name, parameter or operation of a real file that is left in the comparison, changed: refused."""
    path = data.draw(st.sampled_from(sorted((REPOSITORY / "src/mlegfn/diffusion").glob("[a-z]*.py"))))
    tree = ast.parse(path.read_bytes())
    unchanged = ast.unparse(tree).encode()
    for number, node in enumerate(ast.walk(tree)):
        node.number = number
    kept = [
        node.number
        for node in ast.walk(program.reduced(copy.deepcopy(tree), frozenset()))
        if hasattr(node, "number")
    ]
    node = data.draw(
        st.sampled_from([n for n in ast.walk(tree) if n.number in set(kept) and type(n) in CHANGES])
    )
    CHANGES[type(node)](node)
    assert program.difference(unchanged, ast.unparse(tree).encode())


CHANGES = {
    ast.Constant: lambda node: setattr(node, "value", f"{node.value!r}!"),
    ast.Name: lambda node: setattr(node, "id", f"{node.id}_"),
    ast.arg: lambda node: setattr(node, "arg", f"{node.arg}_"),
    ast.BinOp: lambda node: setattr(node, "right", ast.Tuple([node.right], ast.Load())),
    ast.keyword: lambda node: setattr(node, "value", ast.Tuple([node.value], ast.Load())),
    ast.Return: lambda node: setattr(node, "value", ast.Tuple([], ast.Load())),
}


def test_the_hash_of_a_folder_at_a_commit_is_dvcs(tmp_path, monkeypatch):
    """A folder's hash from git's blobs is that of the folder on the disk, what .dvcignore names left out."""
    monkeypatch.chdir(tmp_path)
    for name in ("src/a/b.py", "src/a/b/c.py", "src/a/ü.py", "src/a/x.pyc", "src/a/__pycache__/y.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@test")
    for command in (["init", "-q"], ["add", "-Af"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    versions = relock.Versions("HEAD")
    assert set(versions.then("src/a")) == {"b.py", "b/c.py", "ü.py"}
    assert relock.digest(versions.then("src/a")) == hashes.md5("src/a")
    assert relock.digest(versions.then("src/a/b.py")) == hashes.md5("src/a/b.py")
    assert versions.then("src/none") == {}
    with pytest.raises(UserError, match=r"^nowhere: .*commit"):
        relock.Versions("nowhere")


def test_relock_in_a_checkout(smoke, monkeypatch, capsys):
    """An entry is as recorded again, in DVC's own view, exactly where every changed source is the same program."""
    monkeypatch.chdir(smoke.root)
    lock = smoke.root / "dvc.lock"
    recorded = lockfile.split(lock.read_text())

    def changed_entries():
        now = lockfile.split(lock.read_text())
        assert list(now) == list(recorded)
        return {name for name in now if now[name] != recorded[name]}

    def stale():
        return engine.ask_dvc("smoke").stale

    versions = relock.Versions("HEAD")  # a folder's size and number of files as DVC counts them
    for path, fields in relock.DEPENDENCY.findall("".join(recorded.values())):
        if path.startswith(relock.SOURCE):
            measured = {"md5": versions.now(path), **versions.measures(path)}
            assert all(str(measured[key]) == value for key, value in relock.FIELD.findall(fields)), path

    assert relock.relock() == 0 and capsys.readouterr().out == "dvc.lock: every source is as recorded\n"

    # A docstring: the stages of families and stations print docstrings, so to them it is no mere comment.
    smoke.edit(
        "src/mlegfn/diffusion/schedules.py", '"""Noise schedules:', '# Two.\n"""Schedules of the noise:'
    )
    diffusion = stale()
    printing = {name for name in diffusion if name.startswith(("family@", "station@"))}
    assert {name.split("@")[0] for name in printing} == {"family", "station"}
    assert {"pretrain@smoke-4", "trajectories@smoke"} <= diffusion - printing
    with pytest.raises(UserError, match=rf"^dvc.lock: {len(printing)} stages stay stale"):
        relock.relock()
    shown = capsys.readouterr().out
    assert "src/mlegfn/diffusion/schedules.py:2: differs in docstrings" in shown
    assert changed_entries() == diffusion - printing and stale() == printing

    # A file that is the same program, one that is not: an entry that has both stays as it is, whole.
    smoke.run("git", "checkout", "-q", "src")
    lock.write_text(lockfile.join(recorded))
    smoke.edit("src/mlegfn/diffusion/schedules.py", "import math\n", "import math  # for the cosine\n")
    smoke.edit("src/mlegfn/stages/nll.py", "import torch\n", "import torch\n\nN = 1\n")
    nll = {name for name in diffusion if name.startswith("nll@")}
    assert nll and stale() == diffusion
    done = smoke.run("mlegfn", "relock", check=False)
    assert done.returncode == 2 and "src/mlegfn/stages/nll.py:" in done.stdout
    assert "Traceback" not in done.stdout and f"mlegfn: dvc.lock: {len(nll)} stages stay stale" in done.stdout
    assert changed_entries() == diffusion - nll
    status = smoke.run("dvc", "status", "--json").stdout
    assert {name for name in json.loads(status) if "@" in name} == nll

    # What dvc.lock has recorded now is what lies here, not what HEAD has: there is nothing to compare with.
    before = lock.read_bytes()
    smoke.edit("src/mlegfn/diffusion/schedules.py", "  # for the cosine", "  # for a cosine")
    with pytest.raises(UserError, match="stages stay stale"):
        relock.relock()
    assert "src/mlegfn/diffusion: recorded in another version than that of HEAD" in capsys.readouterr().out
    assert lock.read_bytes() == before

    lock.unlink()
    with pytest.raises(UserError, match=r"^dvc\.lock: not found"):
        relock.relock()
