"""`mlegfn new-scale`: what it inserts, what it leaves alone, and what it refuses."""

import hashlib
import shutil
import zipfile
from functools import cache
from io import BytesIO

import numpy as np
import pytest
from helpers.repository import REPOSITORY
from PIL import Image

from reproduction import cli
from reproduction import params as settings
from reproduction.settings.yaml_file import load, read_yaml
from reproduction.workflow import new_scale


def images(path, shape=(8, 8), train=40, test=6):
    """A .zip of grey images, and their pixels by split."""
    pixels = np.random.default_rng(0).integers(0, 256, (train + test, *shape), dtype=np.uint8)
    with zipfile.ZipFile(path, "w") as archive:
        for index, image in enumerate(pixels):
            Image.fromarray(image).save(content := BytesIO(), "png")
            split = "train" if index < train else "test"
            archive.writestr(f"{split}/bird/{index:04}.png", content.getvalue())
    return {"train": pixels[:train], "test": pixels[train:]}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@cache
def unchanged():
    """The settings of the repository, read once: that takes a second."""
    return settings.load(REPOSITORY / "params.yaml"), read_yaml(REPOSITORY / "params.yaml")


@pytest.mark.parametrize(
    ("like", "newline"),
    [("digits", "\n"), ("smoke", "\r\n"), ("fixed_t1000", "\n"), ("cifar10_hour", "\n")],
)
def test_a_scale_is_inserted_and_nothing_else_changes(checkout, capsys, like, newline):
    file = checkout / "params.yaml"
    old = file.read_text().replace("\n", newline)
    file.write_bytes(old.encode())
    pixels = images("birds.zip", train=600, test=60)
    assert cli.main(["new-scale", "birds", "--images", "birds.zip", "--like", like]) == 0
    new = file.read_bytes().decode()
    assert capsys.readouterr().out.splitlines()[-1] == "Run: make reproduce SCALE=birds"
    kept = new.replace(", birds]", "]", 1)
    lines, inside = [], False
    for line in kept.splitlines(keepends=True):
        inside = line.startswith("  birds:") or (inside and line.startswith("   "))
        if inside and line.startswith("  birds:"):
            assert not lines.pop().strip()
        if not inside and not line.startswith("  birds-"):
            lines.append(line)
    assert "".join(lines) == old
    params, before = settings.load(file), load(old)
    after = load(new)
    names = list(after["images"])
    assert names.index("birds") == names.index(like) + 1
    assert after["images"].pop("birds") and after["image_scales"].pop() == "birds"
    arms = [entry["arm"] for entry in before["arm_runs"].values() if entry["scale"] == like]
    assert [after["arm_runs"].pop(f"birds-{arm}")["arm"] for arm in arms] == arms
    assert after == before
    block, other = params.images["birds"], params.images[like]
    assert (block.data.source, block.data.path, block.alignment) == ("archive", "birds.zip", None)
    assert block.data.sha256_train == hashlib.sha256(pixels["train"].tobytes()).hexdigest()
    assert block.data.sha256_test == hashlib.sha256(pixels["test"].tobytes()).hexdigest()
    assert block.data.validation == (60 if like == "cifar10_hour" else other.data.validation)
    assert block.nll.log_p.images <= 60 and block.quality.samples <= 60
    for part in ("machine", "compute", "network", "diffusion", "pretrain", "finetune", "trajectories"):
        assert getattr(block, part) == getattr(other, part)


def test_a_path_with_quotes_spaces_and_braces_is_that_path(checkout):
    path = 'my "best" bird\'s {x}: #1, é.zip'
    images(path)
    assert cli.main(["new-scale", "birds", "--images", path]) == 0
    assert settings.load().images["birds"].data.path == path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smoke", "--images", "birds.zip"], "there is a scale 'smoke' already"),
        (["discrete", "--images", "birds.zip"], "there is a scale 'discrete' already"),
        (["my-birds", "--images", "birds.zip"], "no name of a scale"),
        (["birds\n", "--images", "birds.zip"], "no name of a scale"),
        (["birds", "--images", "birds.zip", "--like", "digit"], "no scale 'digit'"),
        (["birds", "--images", "birds.zip", "--like", "cifar10_cpu"], "per_batch"),
        (["birds", "--images", "none.zip"], "none.zip: not found"),
        (["birds", "--images", "wide.zip"], "8×6 pixels; the network needs square ones"),
        (["birds", "--images", "odd.zip"], "divisible by 2"),
        (["birds", "--images", "few.zip"], "too few images"),
        (["birds", "--images", "data/birds.zip"], "overlaps with data/"),
        (
            ["birds", "--images", "birds.zip", "--like", "cifar10_hour"],
            "images.birds.nll.evaluations: of 6 test",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line_and_nothing_is_written(
    checkout, monkeypatch, capsys, words, message
):
    params, raw = unchanged()
    original = settings.load
    monkeypatch.setattr(
        new_scale.settings, "load", lambda path: params if path == new_scale.SETTINGS else original(path)
    )
    monkeypatch.setattr(new_scale, "read_yaml", lambda path: raw)
    (checkout / "data").mkdir()
    for name, shape, count in (
        ("birds.zip", (8, 8), 40),
        ("wide.zip", (6, 8), 40),
        ("odd.zip", (7, 7), 40),
        ("few.zip", (8, 8), 3),
        ("data/birds.zip", (8, 8), 40),
    ):
        images(name, shape, count)
    old, files = (checkout / "params.yaml").read_bytes(), sorted(checkout.iterdir())
    assert cli.main(["new-scale", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1 and ".params.yaml.new" not in error
    assert (checkout / "params.yaml").read_bytes() == old and sorted(checkout.iterdir()) == files
