"""The wheel: what a researcher installs works with the packages that it declares, and its types are read."""

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from helpers.repository import REPOSITORY
from packaging.requirements import Requirement
from packaging.version import Version

from mlegfn import __version__


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder in which the wheel, built from a copy of the repository, is unpacked."""
    root = tmp_path_factory.mktemp("wheel")
    (root / "source").mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY / "src", root / "source" / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, root / "source")
    build = ["build", "--wheel", "--offline", "--no-build-isolation", "--python", sys.executable]
    subprocess.run(
        [Path(sys.executable).parent / "uv", *build, "--out-dir", root, root / "source"],
        check=True,
        capture_output=True,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix},
    )
    (wheel,) = root.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(root / "installed")
    return root / "installed"


def about(installed):
    """The wheel's metadata."""
    (file,) = installed.glob("mlegfn-*.dist-info/METADATA")
    return Parser().parsestr(file.read_text())


def declared(installed):
    """The distributions that the wheel asks for without an extra, and all that these ask for."""
    wanted = [Requirement(line) for line in about(installed).get_all("Requires-Dist")]
    names, queue = set(), [each.name for each in wanted if not each.marker or "extra" not in str(each.marker)]
    while queue:
        name = queue.pop().lower().replace("_", "-")
        if name in names:
            continue
        names.add(name)
        for line in metadata.requires(name) or ():
            each = Requirement(line)
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                queue.append(each.name)
    return names


# Imports of packages that are installed, but not among those of argv, fail.
ONLY = """
import importlib, pkgutil, sys
from importlib.metadata import packages_distributions

def normal(name):
    return name.lower().replace("_", "-")

allowed, owners = set(sys.argv[1].split(",")), packages_distributions()
class Block:
    def find_spec(self, name, path=None, target=None):
        owned = owners.get(name.partition(".")[0])
        if owned and "mlegfn" not in owned and not allowed & set(map(normal, owned)):
            raise ModuleNotFoundError(f"{name} is not declared", name=name)

sys.meta_path.insert(0, Block())
"""
USE = """
import mlegfn
assert mlegfn.__file__.startswith(sys.argv[2]), mlegfn.__file__
for module in pkgutil.walk_packages(mlegfn.__path__, "mlegfn."):
    importlib.import_module(module.name)
import torch
from mlegfn.objectives.consistency import consistency
value = consistency(torch.tensor([[1.0, 3.0], [2.0, 2.0]], requires_grad=True))
value.sum().backward()
print(value.tolist())
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.mle_gfn import loss
scale, process = torch.nn.Parameter(torch.ones(())), GaussianDiffusion([0.1, 0.5])
model = DenoisingModel(lambda x, time: scale * x, process, fixed_log_variance(process, "large"))
loss(model, torch.ones(3, 2), weight=0.1, generator=torch.Generator().manual_seed(0)).total.backward()
print(scale.grad.isfinite().item(), mlegfn.__version__)
"""


def python(installed, code, *arguments):
    """Run code with the unpacked wheel in front of the installed packages, away from the repository."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=installed.parent,
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_it_works_with_what_it_declares_alone(installed):
    done = python(installed, ONLY + USE, ",".join(declared(installed)), installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"[2.0, 0.0]\nTrue {__version__}\n"


def test_what_is_not_declared_would_be_missed(installed):
    done = python(installed, ONLY + USE, ",".join(declared(installed) - {"zuko"}), installed)
    assert done.returncode == 1 and "zuko is not declared" in done.stderr


def test_what_it_holds(installed):
    assert (installed / "mlegfn/py.typed").is_file()
    for kind in ("templates/*.html", "static/*"):
        for file in (REPOSITORY / "src/reproduction/site").glob(kind):
            assert (installed / file.relative_to(REPOSITORY / "src")).read_bytes() == file.read_bytes()
    (scripts,) = installed.glob("mlegfn-*.dist-info/entry_points.txt")
    assert "mlegfn = reproduction.cli:main" in scripts.read_text()
    extras = about(installed).get_all("Provides-Extra")
    assert {"unet", "reproduction", "test", "docs"} <= set(extras)


def test_its_metadata_have_the_readme_and_the_version(installed):
    wheel = about(installed)
    assert wheel.get_payload().strip() == (REPOSITORY / "README.md").read_text().strip()
    assert wheel["Description-Content-Type"] == "text/markdown"
    assert wheel["Version"] == __version__


def test_the_command_says_its_version(installed):
    done = python(installed, "from reproduction.cli import main; main(['--version'])")
    assert (done.returncode, done.stdout) == (0, f"mlegfn {__version__}\n"), done.stderr


def test_lower_bounds_are_versions_that_were_tried(installed):
    """Every requirement has one, and the lock file, of which all tests run, satisfies it."""
    locked = {}
    for line in (REPOSITORY / "requirements.lock").read_text().splitlines():
        name, equal, rest = line.partition("==")
        if equal:
            locked.setdefault(name, []).append(Version(rest.split()[0]))
    for line in about(installed).get_all("Requires-Dist"):
        wanted = Requirement(line)
        if wanted.name == "mlegfn":  # one extra in another
            continue
        assert [each.operator for each in wanted.specifier] == [">="], line
        versions = locked[wanted.name.lower().replace(".", "-")]
        assert all(wanted.specifier.contains(version) for version in versions), line


def test_the_lock_file_is_of_what_the_wheel_names(installed):
    """requirements.in, which is locked, has the base and every extra, and nothing else."""
    named = {Requirement(line).name for line in about(installed).get_all("Requires-Dist")} - {"mlegfn"}
    lines = (REPOSITORY / "requirements.in").read_text().splitlines()
    wanted = {Requirement(line).name for line in lines if line and not line.startswith("#")}
    assert wanted == named
    locked = {
        line.partition("==")[0]
        for line in (REPOSITORY / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    assert {name.lower().replace(".", "-") for name in wanted} <= locked


CLIENT = """import torch
from mlegfn.objectives.consistency import consistency
loss: torch.Tensor = consistency(torch.zeros(3, 2)).mean()
"""
WRONG = {
    "result.py": CLIENT.replace("torch.Tensor", "int"),
    "argument.py": CLIENT.replace("torch.zeros(3, 2)", "[[0.0, 1.0]]"),
}


def test_a_user_s_file_is_checked_against_its_types(tmp_path):
    """In strict mode, against the package as it is installed: without py.typed its types would not be read."""
    for name, code in {"right.py": CLIENT, **WRONG}.items():
        (tmp_path / name).write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "right.py", *WRONG],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")},
        capture_output=True,
        text=True,
    )
    lines = [line.partition(": ")[0] for line in done.stdout.splitlines() if "error:" in line]
    assert sorted(lines) == ["argument.py:3", "result.py:3"], done.stdout
