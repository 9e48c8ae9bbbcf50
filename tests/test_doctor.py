"""`mlegfn doctor`: what it says of a machine that can run a scale, and of each thing that one may lack."""

import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY

from mlegfn import cli, config
from mlegfn.errors import UserError
from mlegfn.pipeline import doctor

LOOKED_AT = ["python", "tools", "git", "disk", "gpu", "data", "fid", "graph", "remote"]
PLENTY = SimpleNamespace(free=500 * 2**30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the doctor reads of a checkout, with a git and a DVC of its own."""
    root = tmp_path_factory.mktemp("doctor")
    for name in ("params.yaml", "graph.json", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, root)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    return root


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLEGFN_MIRROR", raising=False)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: PLENTY)
    return folder


def lines(shown):
    """{what: (word, text)} of the doctor's lines, in their order, and the last line."""
    *each, last = shown.splitlines()
    return {what: (word, text) for word, what, text in (line.split(maxsplit=2) for line in each)}, last


def test_a_machine_that_can_run_a_scale(here, capsys):
    assert cli.main(["doctor", "--scale", "smoke"]) == 0
    said, last = lines(capsys.readouterr().out)
    assert list(said) == LOOKED_AT and last == "smoke: can run"
    assert {word for word, _ in said.values()} == {"ok", "note"}
    assert said["gpu"][1] == "not needed at this scale"
    assert re.fullmatch(r"none, so no results are shared; `dvc remote add .*` adds one", said["remote"][1])


def test_one_thing_that_is_missing_does_not_hide_the_others(here, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "TOOLS", (*doctor.TOOLS, "no-such-tool"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    (here / ".dvc/config.local").write_text(
        "[core]\n    remote = store\n['remote \"store\"']\n    url = /store\n"
    )
    assert cli.main(["doctor", "--scale", "smoke"]) == 2
    said, last = lines(capsys.readouterr().out)
    (here / ".dvc/config.local").unlink()
    assert list(said) == LOOKED_AT and last == "smoke: 2 thing(s) missing"
    assert {what for what, (word, _) in said.items() if word == "missing"} == {"tools", "disk"}
    assert said["tools"][1].startswith("no-such-tool: not installed; `make .venv`")
    assert said["disk"][1].startswith("1.0 GiB free here, about 2 wanted")
    assert said["remote"][1] == "store (make restore, make record)"


def scale(name, **changes):
    return config.load(REPOSITORY / "params.yaml").scale(name).model_copy(update=changes)


class Torch:
    """torch on a machine with the GPUs ``names``, built with a CUDA or without."""

    def __init__(self, cuda, names=()):
        self.version = SimpleNamespace(cuda=cuda)
        self.cuda = SimpleNamespace(
            is_available=lambda: bool(names),
            device_count=lambda: len(names),
            get_device_name=names.__getitem__,
        )


@pytest.mark.parametrize(
    "torch, driver, said",
    [
        (Torch(None), None, "torch is built without CUDA; "),
        (Torch("13.0"), None, "no NVIDIA driver found (nvidia-smi); "),
        (Torch("13.0"), "/usr/bin/nvidia-smi", "nvidia-smi is there, but torch finds no GPU; "),
    ],
)
def test_a_gpu_that_is_not_found(monkeypatch, torch, driver, said):
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: driver)
    with pytest.raises(UserError, match=re.escape(said)):
        doctor.gpu(scale("cifar10"))
    assert doctor.gpu(scale("smoke")) == "not needed at this scale"


def test_gpus_that_are_found_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", Torch("13.0", ["one", "two"]))
    assert doctor.gpu(scale("cifar10")) == "one, two"


def test_what_is_no_checkout_or_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no git checkout"):
        doctor.git()
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot be written to"):
        doctor.disk(scale("smoke"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git is not installed"):
        doctor.git()
    monkeypatch.setattr(doctor, "sys", SimpleNamespace(version_info=(3, 10)))
    with pytest.raises(UserError, match=r"too old; install 3\.11"):
        doctor.python()


def test_images_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = scale("smoke")
    with_archive = asked.model_copy(
        update={"data": asked.data.model_copy(update={"source": "archive", "path": "mine.zip"})}
    )
    with pytest.raises(UserError, match=r"^mine\.zip: not found; .*scales\.smoke\.data\.path"):
        doctor.data("smoke", with_archive)
    (tmp_path / "mine.zip").touch()
    assert doctor.data("smoke", with_archive) == "the stage fetch makes it from mine.zip"
    assert (
        doctor.data("smoke", asked) == f"the stage fetch makes it from {asked.data.path or asked.data.source}"
    )
