"""CIFAR-10 from torchvision or from a mirror: equal bytes, no pickle trusted, nothing else taken for it."""

import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mlegfn import data
from mlegfn.data import cifar10, cifar10_mirror
from mlegfn.data.images import TENSORS, pixels_sha256, save_images
from mlegfn.errors import UserError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
SIZE = 3  # images of a batch in the CIFAR-10 of these tests
KNOWN = 2  # of which the hash is known


NAMES = ("path", "per_batch", "train_limit", "test_limit", "sha256_train", "sha256_test")


def settings_of(**changes):
    return SimpleNamespace(**{**dict.fromkeys(NAMES), "source": "cifar10", **changes})


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in TENSORS)


class Evil:
    """A pickle that leaves a trace when it is opened."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return (open, (self.trace, "w"))


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A tiny CIFAR-10 in its own files, with torchvision and the mirror told its hashes, and no network.

    ``truth``: {(batch, index): (pixels [3, 32, 32], label)}; ``tar``, ``folder``: its archive, and what that
    unpacks to once it is unpacked.
    """
    from torchvision.datasets import CIFAR10

    files, truth, numbers = {}, {}, np.random.default_rng(0)
    for name in BATCHES:
        pixels = numbers.integers(0, 256, (SIZE, 3072), dtype=np.uint8)
        labels = [int(x) for x in numbers.integers(0, 10, SIZE)]
        files[name] = pickle.dumps({"data": pixels, "labels": labels})
        truth |= {(name, k): (pixels[k].reshape(3, 32, 32), labels[k]) for k in range(SIZE)}
    files["batches.meta"] = pickle.dumps({"label_names": CLASSES})
    root = tmp_path / "cache"
    root.mkdir()
    with tarfile.open(root / CIFAR10.filename, "w:gz") as file:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5[name]] for name in BATCHES[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((root / CIFAR10.filename).read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    monkeypatch.setenv("MLEGFN_DATA", str(root))
    monkeypatch.delenv("MLEGFN_MIRROR", raising=False)

    monkeypatch.setattr(cifar10_mirror, "PER_BATCH", SIZE)
    monkeypatch.setattr(cifar10_mirror, "KNOWN", KNOWN)
    for split, names in (("train", BATCHES[:5]), ("test", BATCHES[5:])):
        known = [truth[name, k] for name in names for k in range(KNOWN)]
        pixels, labels = b"".join(pixels.tobytes() for pixels, _ in known), bytes(label for _, label in known)
        monkeypatch.setitem(cifar10_mirror.PIXELS, split, hashlib.sha256(pixels).hexdigest())
        monkeypatch.setitem(cifar10_mirror.LABELS, split, hashlib.sha256(labels).hexdigest())
    return SimpleNamespace(
        root=root,
        files=files,
        truth=truth,
        folder=root / CIFAR10.base_folder,
        tar=root / CIFAR10.filename,
        mirror=lambda path: monkeypatch.setenv("MLEGFN_MIRROR", str(path)),
    )


def expected(truth, names, per_batch=SIZE):
    """(pixels, labels) of the first ``per_batch`` images of each batch, one batch after the other."""
    images = [truth[name, k] for name in names for k in range(per_batch)]
    return np.stack([pixels for pixels, _ in images]), [label for _, label in images]


def entries(truth, kind="PNG"):
    """{file name: bytes} of the images, in an order of no meaning."""
    made = {}
    for (batch, k), (pixels, label) in sorted(truth.items(), key=lambda entry: (entry[0][1], entry[1][1])):
        stream = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0)).save(stream, kind)
        split = "test" if batch == "test_batch" else "train"
        made[f"{split}/{CLASSES[label]}/{batch}_{k:05}.{kind.lower()}"] = stream.getvalue()
    return made


def name_of(truth, batch, k):
    split = "test" if batch == "test_batch" else "train"
    return f"{split}/{CLASSES[truth[batch, k][1]]}/{batch}_{k:05}.png"


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def foldered(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def tarred(path, files):
    with tarfile.open(path, "w:gz") as file:
        for name, content in files.items():
            member = tarfile.TarInfo(f"around/{name}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def error(per_batch=None):
    with pytest.raises(UserError) as caught:
        cifar10.load(per_batch)
    text = str(caught.value)
    assert "\n" not in text
    return text


# From torchvision


def test_from_an_archive_that_was_put_there(tiny):
    images = data.load(settings_of())
    assert images.train_images.dtype == torch.uint8 and images.train_labels.dtype == torch.int64
    assert (images.levels, images.classes, images.label, images.source) == (256, 10, "cifar10", "cifar10")
    for split, names in (("train", BATCHES[:5]), ("test", BATCHES[5:])):
        pixels, labels = expected(tiny.truth, names)
        assert np.array_equal(getattr(images, f"{split}_images").numpy(), pixels)
        assert getattr(images, f"{split}_labels").tolist() == labels
    tiny.tar.unlink()
    assert same(images, cifar10.load()), "what is unpacked is enough"


def test_the_first_of_each_batch_and_then_the_limits(tiny):
    images = data.load(settings_of(per_batch=2, train_limit=5, test_limit=1))
    pixels, labels = expected(tiny.truth, BATCHES[:5], 2)
    assert (
        np.array_equal(images.train_images.numpy(), pixels[:5]) and images.train_labels.tolist() == labels[:5]
    )
    assert len(images.test_labels) == 1
    with pytest.raises(UserError, match=r"train_limit: asks for 11 images, but cifar10 has 10"):
        data.load(settings_of(per_batch=2, train_limit=11))


def test_without_network(tiny):
    tiny.tar.unlink()
    text = error()
    assert "not found, and the download failed" in text and "MLEGFN_MIRROR" in text and str(tiny.tar) in text
    assert list(tiny.root.iterdir()) == []


def test_truncated_archive(tiny):
    tiny.tar.write_bytes(tiny.tar.read_bytes()[:-100])
    with pytest.raises(
        UserError, match=r"altered or truncated: MD5 expected [0-9a-f]{32}, found [0-9a-f]{32}"
    ):
        cifar10.load()
    assert tiny.tar.exists()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_no_pickle_is_opened_that_is_not_known(tiny, tmp_path, name, mirrored):
    cifar10.load()
    (tiny.folder / name).write_bytes(pickle.dumps(Evil(tmp_path / "trace")))
    tiny.tar.unlink()
    if mirrored:
        tiny.mirror(tiny.root)
        assert f"{tiny.folder / name}: altered or truncated: MD5 expected" in error()
    else:
        error()
    assert not (tmp_path / "trace").exists()


def test_where_nothing_can_be_written(tiny, monkeypatch):
    tiny.tar.unlink()
    (tiny.root / "file").write_text("")
    monkeypatch.setenv("MLEGFN_DATA", str(tiny.root / "file"))
    error()


# From a mirror


def fetched(folder, settings):
    """The bytes of the two files that are saved of them."""
    save_images(data.load(settings), folder / "c")
    return [(folder / "c" / name).read_bytes() for name in ("images.safetensors", "dataset.json")]


@pytest.mark.parametrize("per_batch", [None, 2, 1])
def test_every_way_gives_equal_bytes(tiny, tmp_path, monkeypatch, per_batch):
    settings = settings_of(per_batch=per_batch)
    by_torchvision = fetched(tmp_path, settings)
    assert json.loads(by_torchvision[1])["train"] == 5 * (per_batch or SIZE)
    monkeypatch.setenv("MLEGFN_DATA", str(tmp_path / "nothing"))  # so that only the mirror can give them

    files = entries(tiny.truth)
    own = tmp_path / "own"
    shutil.copytree(tiny.folder, own / tiny.folder.name)
    shutil.copytree(tiny.folder, tmp_path / "renamed")
    renamed = tmp_path / "cifar.tgz"
    renamed.write_bytes(tiny.tar.read_bytes())
    for mirror in (
        tiny.tar,
        renamed,
        tiny.tar.parent,
        own,
        own / tiny.folder.name,
        tmp_path / "renamed",
        zipped(tmp_path / "pngs.zip", files | {"README.md": b"hello"}),
        tarred(tmp_path / "pngs.tar.gz", dict(reversed(files.items()))),
        foldered(tmp_path / "pngs", files),
    ):
        before = sorted(os.listdir(mirror)) if mirror.is_dir() else mirror.read_bytes()
        tiny.mirror(mirror)
        assert fetched(tmp_path, settings) == by_torchvision, mirror
        assert before == (sorted(os.listdir(mirror)) if mirror.is_dir() else mirror.read_bytes())
    tiny.mirror("")
    assert "download failed" in error(), "an empty variable is none"


def test_images_beyond_those_wanted_are_not_read(tiny, tmp_path):
    files = entries(tiny.truth)
    files[name_of(tiny.truth, "data_batch_1", 2)] = b"broken"
    tiny.mirror(zipped(tmp_path / "x.zip", files))
    assert cifar10.load(2).train_images.shape == (10, 3, 32, 32)
    assert "no readable PNG or JPEG" in error()


def test_a_mirror_that_lacks_images(tiny, tmp_path):
    files = entries(tiny.truth)
    del files[name_of(tiny.truth, "data_batch_4", 2)], files[name_of(tiny.truth, "test_batch", 2)]
    tiny.mirror(zipped(tmp_path / "x.zip", files))
    assert (
        "x.zip: lacks 2 of the first 3 images of CIFAR-10's batches, beginning with data_batch_4_00002"
        in error()
    )
    assert cifar10.load(2), "a subset needs no more than itself"
    del files[name_of(tiny.truth, "test_batch", 1)]
    tiny.mirror(zipped(tmp_path / "x.zip", files))
    assert "lacks 1 of the first 2 images of CIFAR-10's batches, beginning with test_batch_00001" in error(1)


@pytest.mark.parametrize("split, batch", [("train", "data_batch_5"), ("test", "test_batch")])
@pytest.mark.parametrize("per_batch", [None, 1])
def test_one_level_or_label_that_differs(tiny, tmp_path, split, batch, per_batch):
    truth = dict(tiny.truth)
    pixels, label = truth[batch, 1]
    truth[batch, 1] = pixels ^ (np.arange(3072).reshape(3, 32, 32) == 77), label
    tiny.mirror(zipped(tmp_path / "x.zip", entries(truth)))
    text, right = error(per_batch), cifar10_mirror.PIXELS[split]
    names = BATCHES[:5] if split == "train" else BATCHES[5:]
    found = pixels_sha256(torch.from_numpy(expected(truth, names, KNOWN)[0]))
    assert f"x.zip: not CIFAR-10's own {split} images" in text and f"expected {right}, found {found}" in text
    assert "`source: archive`" in text

    truth[batch, 1] = pixels, (label + 1) % 10
    tiny.mirror(zipped(tmp_path / "x.zip", entries(truth)))
    assert f"SHA-256 of the labels of the first {KNOWN} of each batch: expected" in error(per_batch)


def test_a_reencoding_is_refused_by_its_hash(tiny, tmp_path):
    tiny.mirror(zipped(tmp_path / "x.zip", entries(tiny.truth, "JPEG")))
    assert (
        "x.zip: not CIFAR-10's own train images (re-encoded as JPEG, say): SHA-256 of the pixels" in error()
    )


@pytest.mark.parametrize(
    "name, said",
    [
        ("train/cat/0000.jpg", "its name has no batch and index as in data_batch_1_00000.png"),
        ("train/cat/data_batch_6_00000.png", "its name has no batch and index"),
        ("train/cat/data_batch_1_00003.png", "a batch of CIFAR-10 has 3 images"),
        ("train/cat/test_batch_00000.png", "an image of test_batch does not belong into train/"),
        ("test/cat/data_batch_1_00000.png", "an image of data_batch_1 does not belong into test/"),
        ("train/tiger/data_batch_1_00000.png", "CIFAR-10 has no class 'tiger'; there are airplane, "),
        ("data_batch_1_00000.png", "lies in neither train/<class>/ nor test/<class>/"),
        ("../data_batch_1_00000.png", "refused"),
    ],
)
def test_files_that_are_not_cifar10s(tiny, tmp_path, name, said):
    tiny.mirror(zipped(tmp_path / "x.zip", {name: b""} | entries(tiny.truth)))
    text = error()
    assert text.startswith(f"MLEGFN_MIRROR: {tmp_path / 'x.zip'}: {name!r}: ") and said in text


def test_two_files_for_one_image(tiny, tmp_path):
    first = name_of(tiny.truth, "data_batch_1", 0)
    second = first.replace("_00000", "_0")
    files = entries(tiny.truth)
    tiny.mirror(zipped(tmp_path / "x.zip", files | {second: files[first]}))
    assert f"{second!r}: is the same image of CIFAR-10 as {first!r}; keep one" in error(1)


@pytest.mark.parametrize("mode, size", [("L", 32), ("RGB", 33)])
def test_images_of_another_shape(tiny, tmp_path, mode, size):
    stream, name = io.BytesIO(), name_of(tiny.truth, "test_batch", 0)
    Image.new(mode, (size, size)).save(stream, "PNG")
    tiny.mirror(zipped(tmp_path / "x.zip", entries(tiny.truth) | {name: stream.getvalue()}))
    assert f"{name!r}: is no RGB image of 32×32" in error()


def test_mirrors_that_are_none(tiny, tmp_path):
    tiny.mirror(tmp_path / "nothing.zip")
    assert f"MLEGFN_MIRROR: {tmp_path / 'nothing.zip'}: not found" in error()
    tiny.mirror(tmp_path / ("x" * 300))
    assert "MLEGFN_MIRROR: " in error()
    (tmp_path / "empty").mkdir()
    tiny.mirror(tmp_path / "empty")
    assert "lacks 18 of the first 3 images" in error()
    whole = zipped(tmp_path / "x.zip", entries(tiny.truth))
    for content in (b"", b"hello", whole.read_bytes()[:-200]):
        (tmp_path / "y.zip").write_bytes(content)
        tiny.mirror(tmp_path / "y.zip")
        assert f"MLEGFN_MIRROR: {tmp_path / 'y.zip'}: cannot be read to its end" in error()


def test_its_own_archive_truncated_and_its_folder_incomplete(tiny):
    cifar10.load()
    tiny.mirror(tiny.root)
    (tiny.folder / "data_batch_2").unlink()
    assert cifar10.load(), "the archive beside it is whole"
    tiny.tar.write_bytes(tiny.tar.read_bytes()[:-100])
    assert f"{tiny.tar}: altered or truncated: MD5 expected" in error()
    tiny.tar.unlink()
    assert f"{tiny.folder / 'data_batch_2'}: not found; unpack cifar-10-python.tar.gz there again" in error()
