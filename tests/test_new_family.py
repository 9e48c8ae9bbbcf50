"""A new family is one file: the one in docs/families.md, put into the folder, appears everywhere by itself."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

CODE = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs/families.md").read_text(), re.DOTALL)[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a family touches, with pca.py in it."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("src", "tests"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("params.yaml", "pyproject.toml", "dvc.yaml"):
        shutil.copy(REPOSITORY / file, root)
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
        checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_families.py", "-k", "pca"
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 13


def test_it_has_a_stage_and_stands_in_table_1(checkout, warm_environment):
    params = (checkout / "params.yaml").read_text()
    start = params.index("  smoke:")
    smoke = re.sub(r"include:.*\n( +- \w+\n)+", "include: [pca]\n", params[start:], count=1)
    (checkout / "params.yaml").write_text(params[:start] + smoke)
    steps = [["graph"], ["stage", "family", "--scale", "smoke", "--family", "pca"]]
    for arguments in [*steps, ["stage", "families", "--scale", "smoke"]]:
        done = python(checkout, "-m", "mlegfn", *arguments, MLEGFN_WARM=warm_environment["MLEGFN_WARM"])
        assert done.returncode == 0, done.stderr
    assert '"digits-pca"' in (checkout / "graph.json").read_text(), "`include: null` finds it"
    for file in ("tables/table1.md", "tables/families.md", "report/families.md"):
        assert "Probabilistic PCA" in (checkout / "results/smoke" / file).read_text()
