"""A new family is one file: the one in docs/families.md, put into the folder, is found and tested by itself."""

import re
import shutil
import subprocess
import sys

import pytest
from helpers.repository import REPOSITORY

CODE = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs/families.md").read_text(), re.DOTALL)[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a family touches, with pca.py in it."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("src/mlegfn", "tests/helpers", "tests/mlegfn/families"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(REPOSITORY / file, root / file)
    (root / "src/mlegfn/families/pca.py").write_text(CODE)
    return root


def python(root, *arguments, **more):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={"PYTHONPATH": f"{root}/src", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **more},
        capture_output=True,
        text=True,
    )


def test_its_properties_are_tested(checkout):
    done = python(
        checkout,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/mlegfn/families/test_families.py",
        "-k",
        "pca",
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 13
