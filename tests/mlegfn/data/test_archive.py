"""Archives of images: the same images however packed, and one line for whatever is wrong with them."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mlegfn.data import archive, containers
from mlegfn.errors import UserError

KINDS = ["folder", "zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def png(seed=0, size=(5, 4), mode="RGB", kind="PNG"):
    """The bytes of a random image of (width, height)."""
    shape = (size[1], size[0]) if mode != "RGB" else (size[1], size[0], 3)
    levels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    image = Image.fromarray(levels, None if mode in ("L", "RGB") else "L").convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def good(**more):
    """Three classes to train on, two to test."""
    entries = {f"train/{name}/{k}.png": png(10 * c + k) for c, name in enumerate("abc") for k in range(c + 1)}
    return entries | {"test/a/0.png": png(90), "test/b/1.png": png(91)} | more


def pack(folder, entries, kind="zip"):
    """``{name: bytes}`` as a folder or archive, in the order given."""
    path = folder / ("birds" if kind == "folder" else f"birds.{kind}")
    if kind == "folder":
        for name, content in entries.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, content in entries.items():
                file.writestr(name, content)
    else:
        with tarfile.open(path, f"w:{kind[4:]}") as file:
            for name, content in entries.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return path


def error_of(path):
    with pytest.raises(UserError) as caught:
        archive.load(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 500
    return text


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_images_however_packed(tmp_path, kind):
    images = archive.load(pack(tmp_path, dict(reversed(good().items())), kind))
    (tmp_path / "other").mkdir()
    again = archive.load(pack(tmp_path / "other", good(), "zip"))
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(images, name), getattr(again, name))
    assert images.train_images.shape == (6, 3, 4, 5) and images.train_images.dtype == torch.uint8
    assert (images.label, images.levels, images.classes, images.source) == ("birds", 256, 3, "archive")
    # The first image of every class, then the second of those that have one, …
    assert images.train_labels.tolist() == [0, 1, 2, 1, 2, 2] and images.test_labels.tolist() == [0, 1]
    expected = np.asarray(Image.open(io.BytesIO(png(21)))).transpose(2, 0, 1)
    assert np.array_equal(images.train_images[4].numpy(), expected)


def test_grey_images_and_jpeg(tmp_path):
    entries = {
        f"{split}/x/{k}.jpeg": png(k, (8, 8), "L", "JPEG") for split in ("train", "test") for k in range(2)
    }
    images = archive.load(pack(tmp_path, entries))
    assert images.train_images.shape == (2, 1, 8, 8)


def test_one_folder_around_everything_and_leftovers_of_systems(tmp_path):
    entries = {f"birds/{name}": content for name, content in good().items()}
    entries |= {
        "birds/README.md": b"hello",
        "__MACOSX/birds/train/._0.png": b"x",
        "birds/train/a/.DS_Store": b"x",
    }
    assert len(archive.load(pack(tmp_path, entries)).train_labels) == 6


def test_labels_come_from_the_name(tmp_path):
    for name in ("cifar10-jpeg.tar.xz", "cifar10-jpeg.zip", "cifar10-jpeg", "cifar10-jpeg.TGZ"):
        assert archive.label_of(tmp_path / name) == "cifar10-jpeg"
    assert archive.label_of("v1.2") == "v1.2"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "train/../../evil.png",
        "/etc/evil.png",
        "C:/evil.png",
        "train\\a\\0.png",
        "train/a/\n.png",
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path, kind, name):
    assert "refused" in error_of(pack(tmp_path, good() | {name: png()}, kind))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    path = pack(tmp_path, good(), "tar")
    with tarfile.open(path, "a") as file:
        member = tarfile.TarInfo("train/a/7.png")
        member.type, member.linkname = kind, "/etc/passwd"
        file.addfile(member)
    assert "'train/a/7.png': is a" in error_of(path)


def test_links_in_a_zip_and_in_a_folder_are_refused(tmp_path):
    path = pack(tmp_path, good())
    with zipfile.ZipFile(path, "a") as file:
        entry = zipfile.ZipInfo("train/a/7.png")
        entry.external_attr = 0o120777 << 16
        file.writestr(entry, "/etc/passwd")
    assert "'train/a/7.png': is a link" in error_of(path)
    folder = pack(tmp_path, good(), "folder")
    (folder / "train" / "a" / "7.png").symlink_to("/etc/passwd")
    assert "'train/a/7.png': is a link" in error_of(folder)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_bombs_are_refused_before_they_are_unpacked(tmp_path, kind, monkeypatch):
    path = pack(tmp_path, good() | {"train/a/bomb.png": bytes(containers.FILE_BYTES + 1)}, kind)
    assert "'train/a/bomb.png': unpacks to" in error_of(path)
    monkeypatch.setattr(containers, "TOTAL_BYTES", 500)
    assert "up to here it unpacks to" in error_of(pack(tmp_path, good(), kind))


def test_a_huge_header_is_refused(tmp_path):
    """A pax header is read whole by tarfile; 1 GB of zeros would be packed into 1 MB."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**30
    path = tmp_path / "bomb.tar.gz"
    with containers.gzip.open(path, "wb") as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT) + bytes(2**20))
    assert "cannot be read to its end" in error_of(path)


def test_a_zip_that_lies_about_sizes(tmp_path):
    path = pack(tmp_path, good())
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24  # the unpacked size in the first central header
    content[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    error_of(path)


def test_images_that_are_too_large(tmp_path):
    wide = io.BytesIO()
    Image.new("L", (archive.SIDE + 1, 1)).save(wide, "PNG")
    assert f"'train/a/w.png': is {archive.SIDE + 1}×1" in error_of(
        pack(tmp_path, good() | {"train/a/w.png": wide.getvalue()})
    )
    # A PNG whose header claims 2^31 − 1 pixels a side: refused by its header alone.
    claim = bytearray(png())
    claim[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    claim[29:33] = containers.zipfile.crc32(bytes(claim[12:29])).to_bytes(4, "big")
    assert "'train/a/w.png': " in error_of(pack(tmp_path, good() | {"train/a/w.png": bytes(claim)}))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    "entries, said",
    [
        ({"train/a/0.png": png()}, "holds no test images"),
        ({"test/a/0.png": png()}, "holds no train images"),
        ({}, "holds no train images"),
        (good() | {"train/a/z.png": png(size=(6, 4))}, "'train/a/z.png': is 6×4 RGB, but "),
        (good() | {"train/a/z.png": png(mode="L")}, "'train/a/z.png': is 5×4 grey, but "),
        (good() | {"train/a/z.png": png(mode="RGBA")}, "'train/a/z.png': has the mode RGBA"),
        (good() | {"train/a/z.png": png(mode="P")}, "'train/a/z.png': has the mode P"),
        (good() | {"train/a/z.png": png(mode="1")}, "'train/a/z.png': has the mode 1"),
        (good() | {"train/a/z.png": b""}, "'train/a/z.png': no readable PNG or JPEG (empty file)"),
        (good() | {"train/a/z.png": b"GIF89a"}, "'train/a/z.png': no readable PNG or JPEG"),
        (good() | {"train/a/z.png": png()[:-40]}, "'train/a/z.png': no readable PNG or JPEG"),
        (good() | {"train/a/z.jpg": png(size=(64, 64), kind="JPEG")[:300]}, "'train/a/z.jpg': no readable"),
        (good() | {"train/a/z.webp": b"x"}, "'train/a/z.webp': is no .png or .jpg"),
        (good() | {"train/z.png": png()}, "'train/z.png': images belong into train/<class>/"),
        (good() | {"train/a/b/z.png": png()}, "'train/a/b/z.png': images belong into train/<class>/"),
        (good() | {"validation/a/z.png": png()}, "lies in neither train/<class>/ nor test/<class>/"),
        (good() | {"again/train/a/z.png": png()}, "'again/train/a/z.png': lies under 'again'"),
    ],
)
def test_what_each_mistake_says(tmp_path, kind, entries, said):
    assert said in error_of(pack(tmp_path, entries, kind))


def test_archives_that_are_none(tmp_path):
    assert "not found" in error_of(tmp_path / "nothing.zip")
    other = tmp_path / "x.tar"
    for content in (
        b"",
        b"hello",
        os.urandom(5000),
        b"\x28\xb5\x2f\xfd" + bytes(100),
        b"\x1f\x8b" + bytes(100),
    ):
        other.write_bytes(content)
        error_of(other)


def test_a_password(tmp_path):
    path = pack(tmp_path, good())
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + offset] |= 1
    path.write_bytes(content)
    assert "cannot be read to its end" in error_of(path)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 0.999))
def test_truncated_archives_are_never_taken_for_whole(tmp_path, kind, cut):
    path = pack(tmp_path, good(), kind)
    content = path.read_bytes()
    whole = len(content) - (tarfile.RECORDSIZE - 1 if kind == "tar" else 0)  # a tar ends with padding
    path.write_bytes(content[: int(cut * whole)])
    error_of(path)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 0.9999), value=st.integers(0, 255))
def test_no_damaged_byte_gives_a_traceback(tmp_path, kind, where, value):
    path = pack(tmp_path, good(), kind)
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] = value
    path.write_bytes(content)
    try:
        archive.load(path)
    except UserError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_nothing_is_written(tmp_path, monkeypatch):
    path = pack(tmp_path, good(), "tar.gz")
    monkeypatch.chdir(tmp_path)
    archive.load(path)
    assert os.listdir(tmp_path) == ["birds.tar.gz"]
