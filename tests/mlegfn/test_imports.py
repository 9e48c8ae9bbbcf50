"""The library is imported without what only the reproduction needs, or what only some of its functions do."""

import os
import subprocess
import sys

import pytest
from helpers.repository import REPOSITORY

# What runs the pipeline, draws its figures and reads its settings; and the extras of the library.
NOT_NEEDED = [
    *("reproduction", "dvc", "dvc_data", "dvc_objects", "snakemake", "pydantic", "yaml", "ruamel"),
    *("pandas", "matplotlib", "jinja2", "altair", "tensorboard", "filelock"),
    *("diffusers", "huggingface_hub", "transformers", "torchvision", "ot", "torch_fidelity"),
]
BLOCK = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

BLOCKED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Block())
import mlegfn
names = [module.name for module in pkgutil.walk_packages(mlegfn.__path__, "mlegfn.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def python(code, *arguments):
    """Run code with src alone on the path beside the installed packages."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_every_module_is_imported_without_them():
    done = python(BLOCK, ",".join(NOT_NEEDED))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80


def test_the_block_blocks():
    done = python(BLOCK, "tqdm")
    assert done.returncode == 1 and "tqdm is blocked" in done.stderr


@pytest.mark.parametrize("name", ["mlegfn", "mlegfn.families", "mlegfn.errors", "mlegfn.artifacts"])
def test_names_and_errors_are_had_without_torch(name):
    """The reproduction reads settings with these, and a settings file should be refused at once."""
    done = python(f"import sys, {name}; print('torch' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_every_module_lists_its_names():
    """``__all__`` stands before the first definition, and names what is there."""
    import ast

    for file in sorted((REPOSITORY / "src" / "mlegfn").rglob("*.py")):
        body = ast.parse(file.read_text()).body
        listed = [
            node
            for node in body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        ]
        defined = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        if not defined:
            continue
        assert len(listed) == 1 and listed[0].lineno < defined[0].lineno, file
        names = {
            each.id if isinstance(each, ast.Name) else getattr(each, "name", None)
            for node in body
            for each in [node, getattr(node, "target", None), *getattr(node, "targets", [])]
        } | {
            alias.asname or alias.name
            for node in body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert set(ast.literal_eval(listed[0].value)) <= names, file
