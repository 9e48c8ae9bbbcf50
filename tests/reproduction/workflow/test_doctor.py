"""`mlegfn doctor`: what it says of a machine that can run a scale, and of each thing that one may lack."""

import re
import shutil
import subprocess
import sys
from functools import cache
from types import SimpleNamespace

import pytest
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction import cli, params
from reproduction.workflow import doctor

LOOKED_AT = ["python", "tools", "git", "disk", "gpu", "data", "fid", "remote"]
PLENTY = SimpleNamespace(free=500 * 2**30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the doctor reads of a checkout, with a git and a DVC of its own."""
    root = tmp_path_factory.mktemp("doctor")
    shutil.copy(REPOSITORY / "params.yaml", root)
    shutil.copytree(REPOSITORY / "params", root / "params")
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
    *checks, last = shown.splitlines()
    return {what: (word, text) for word, what, text in (line.split(maxsplit=2) for line in checks)}, last


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
    local = here / ".dvc/config.local"
    local.write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = /store\n")
    assert cli.main(["doctor", "--scale", "discrete"]) == 2  # a scale without images
    said, last = lines(capsys.readouterr().out)
    local.unlink()
    assert list(said) == LOOKED_AT and last == "discrete: 2 thing(s) missing"
    assert {what for what, (word, _) in said.items() if word == "missing"} == {"tools", "disk"}
    assert said["tools"][1].startswith("no-such-tool: not installed; `make install`")
    assert said["disk"][1].startswith("1.0 GiB free here, about 2 wanted")
    assert said["remote"][1] == "store (make restore, make record)"
    assert said["gpu"][1] == said["data"][1] == "not needed at this scale"


@cache
def settings():
    return params.load(REPOSITORY / "params.yaml")


def scale(name, **data):
    block = settings().images[name]
    return block.model_copy(update={"data": block.data.model_copy(update=data)})


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
    assert doctor.gpu(scale("smoke")) == doctor.gpu(None) == "not needed at this scale"


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
    mine = scale("smoke", source="archive", path="mine.zip")
    with pytest.raises(UserError, match=r"^mine\.zip: not found; .*images\.smoke\.data\.path"):
        doctor.data("smoke", mine)
    (tmp_path / "mine.zip").touch()
    assert doctor.data("smoke", mine) == "the stage fetch makes it from mine.zip"
    assert doctor.data("smoke", scale("smoke")) == "the stage fetch makes it from digits"


def test_cifar10_comes_from_a_mirror_or_the_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLEGFN_MIRROR", raising=False)
    assert doctor.data("cifar10", scale("cifar10"))[0] == "note"
    monkeypatch.setenv("MLEGFN_MIRROR", str(tmp_path))
    assert (
        doctor.data("cifar10", scale("cifar10"))
        == f"the stage fetch takes CIFAR-10 from MLEGFN_MIRROR, {tmp_path}"
    )
    monkeypatch.setenv("MLEGFN_MIRROR", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"^MLEGFN_MIRROR: .*none: not found"):
        doctor.data("cifar10", scale("cifar10"))


def test_weights_for_fid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = settings().images["smoke"]
    assert doctor.inception("smoke", block)[0] == "note"
    named = block.model_copy(update={"quality": block.quality.model_copy(update={"inception": "w.pth"})})
    with pytest.raises(UserError, match=r"^w\.pth: not found; .*images\.smoke\.quality\.inception"):
        doctor.inception("smoke", named)
    (tmp_path / "w.pth").touch()
    assert doctor.inception("smoke", named) == "with the weights w.pth; the stage quality verifies them"
