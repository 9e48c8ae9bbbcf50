"""Images: fixed splits, levels and back, hashes in the settings, files that prove themselves."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlegfn import data
from mlegfn.data import digits
from mlegfn.data.images import (
    TENSORS,
    Images,
    load_images,
    pixels_sha256,
    save_images,
    scale_to_unit,
    to_levels,
)
from mlegfn.errors import UserError

NAMES = ("path", "per_batch", "train_limit", "test_limit", "sha256_train", "sha256_test")


def settings_of(**changes):
    return SimpleNamespace(**{**dict.fromkeys(NAMES), "source": "digits", **changes})


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in TENSORS)


# Levels


@given(st.integers(2, 256))
def test_levels_there_and_back(levels):
    k = torch.arange(levels).to(torch.uint8)
    x = scale_to_unit(k, levels)
    assert x.dtype == torch.float32 and x[0] == -1 and x[-1] == 1 and (x[1:] > x[:-1]).all()
    assert torch.equal(to_levels(x, levels), k)
    # Anything less than half a bin away belongs to the same level; what is outside is clipped.
    near = x + (torch.rand(levels) - 0.5) * (2 / (levels - 1)) * 0.99
    assert torch.equal(to_levels(near, levels), k)
    assert to_levels(torch.tensor([-9.0, 9.0]), levels).tolist() == [0, levels - 1]


def test_misuse_of_levels():
    with pytest.raises(ValueError, match="uint8"):
        scale_to_unit(torch.zeros(3), 17)
    with pytest.raises(ValueError, match="from 2 to 256"):
        scale_to_unit(torch.zeros(3, dtype=torch.uint8), 1)
    with pytest.raises(ValueError, match="finite"):
        to_levels(torch.tensor([0.0, float("nan")]), 17)


# Digits


def test_digits_split():
    images = digits.load()
    assert images.train_images.shape == (1437, 1, 8, 8) and images.test_images.shape == (360, 1, 8, 8)
    assert images.train_images.dtype == torch.uint8 and images.train_labels.dtype == torch.int64
    assert (images.levels, images.classes, images.label, images.shape) == (17, 10, "digits", (1, 8, 8))
    assert images.train_images.max() == 16 and images.train_images.min() == 0
    test, all_of_them = (
        images.test_labels.bincount(),
        torch.cat([images.test_labels, images.train_labels]).bincount(),
    )
    assert ((test - all_of_them / 5).abs() < 1).all(), "a fifth of every class"
    assert same(images, digits.load())


def test_digits_split_loses_and_doubles_nothing():
    from sklearn.datasets import load_digits

    images = digits.load()
    ours = torch.cat([images.train_images, images.test_images]).flatten(1).numpy()
    theirs = load_digits().data.astype(np.uint8)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))


def test_limits():
    images = data.load(settings_of(train_limit=64, test_limit=10))
    whole = digits.load()
    assert torch.equal(images.train_images, whole.train_images[:64])
    assert torch.equal(images.test_labels, whole.test_labels[:10])
    assert images.train_labels.unique().numel() == 10
    with pytest.raises(UserError, match=r"^train_limit: asks for 5000 images, but digits has 1437"):
        data.load(settings_of(train_limit=5000))


@pytest.mark.parametrize("split", ["train", "test"])
def test_hashes_in_the_settings(split):
    """They are of the source, so they hold whatever the limits; other images are one line that names the key."""
    whole, key = digits.load(), f"sha256_{split}"
    right = whole.record[key]
    for limits in ({}, {"train_limit": 64, "test_limit": 10}):
        assert same(data.load(settings_of(**{key: right}, **limits)), whole.limited(*limits.values()))
    wrong = "0" * 64
    with pytest.raises(UserError, match=rf"^{key}: expected {wrong}, .* have {right}; .*`{key}: {right}`.*$"):
        data.load(settings_of(**{key: wrong}))


# The two files


def small(seed=0):
    numbers = torch.Generator().manual_seed(seed)
    draw = lambda high, *shape: torch.randint(high, shape, generator=numbers)  # noqa: E731
    return Images(
        draw(17, 6, 1, 8, 8).to(torch.uint8),
        draw(10, 6),
        draw(17, 3, 1, 8, 8).to(torch.uint8),
        draw(10, 3),
        17,
        "x",
        10,
        "digits",
    )


def test_save_and_load(tmp_path):
    save_images(small(), tmp_path / "a")
    images = load_images(tmp_path / "a")
    assert same(images, small()) and (images.levels, images.label, images.classes) == (17, "x", 10)
    about = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert about["shape"] == [1, 8, 8] and (about["train"], about["test"]) == (6, 3)
    assert about["sha256_train"] == hashlib.sha256(bytes(small().train_images.flatten().tolist())).hexdigest()
    assert about["sha256_test"] == pixels_sha256(small().test_images)


def test_pixels_hash_is_of_values_not_of_memory_layout():
    images = small().train_images.expand(-1, 3, -1, -1)
    assert pixels_sha256(images) == pixels_sha256(images.contiguous().to(memory_format=torch.channels_last))


@settings(max_examples=60, deadline=None)
@given(where=st.floats(0, 0.9999), bit=st.integers(0, 7), cut=st.booleans())
def test_altered_or_truncated_images(tmp_path_factory, where, bit, cut):
    folder = tmp_path_factory.mktemp("data")
    save_images(small(), folder)
    file = folder / "images.safetensors"
    content = bytearray(file.read_bytes())
    expected, at = hashlib.sha256(content).hexdigest(), int(where * len(content))
    if cut:
        del content[at:]
    else:
        content[at] ^= 1 << bit
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_images(folder)
    text = str(caught.value)
    assert str(file) in text and expected in text and hashlib.sha256(content).hexdigest() in text
    assert "\n" not in text
    assert file.read_bytes() == content, "nothing is deleted"


@pytest.mark.parametrize(
    "change",
    [
        {"levels": None},
        {"train": 7},
        {"shape": [1, 8, 9]},
        {"shape": 3},
        {"sha256_train": "0"},
        {"sha256_file": 3},
    ],
)
def test_altered_description(tmp_path, change):
    save_images(small(), tmp_path)
    file = tmp_path / "dataset.json"
    about = json.loads(file.read_text()) | change
    file.write_text(json.dumps({key: value for key, value in about.items() if value is not None}))
    with pytest.raises(UserError, match=r"(?s)^[^\n]+$"):
        load_images(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", "{", "\x00", '{"a": NaN}'])
def test_descriptions_that_are_none(tmp_path, content):
    save_images(small(), tmp_path)
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset.json"):
        load_images(tmp_path)


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match=r"dataset.json: not found"):
        load_images(tmp_path)
    save_images(small(), tmp_path)
    (tmp_path / "images.safetensors").unlink()
    with pytest.raises(UserError, match=r"images.safetensors: not found"):
        load_images(tmp_path)


def test_an_archive_as_a_source(tmp_path):
    from PIL import Image

    for split in ("train", "test"):
        (tmp_path / "mine" / split / "a").mkdir(parents=True)
        Image.new("L", (8, 8), 77).save(tmp_path / "mine" / split / "a" / "0.png")
    images = data.load(settings_of(source="archive", path=str(tmp_path / "mine")))
    assert (images.label, images.levels, images.shape) == ("mine", 256, (1, 8, 8))
