"""A local copy of CIFAR-10: its own archive, what that unpacks to, or PNGs named by batch and index.

torchvision's MD5s prove the first two. No hash of the pixels is published, so images in other files prove
themselves by the first :data:`KNOWN` of every batch, whose hashes stand here. They are constants and not
settings, because they say what CIFAR-10 is; the settings of one scale must not decide that for another.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from mlegfn.data import cifar10_batches
from mlegfn.data.archive import decode, place
from mlegfn.data.containers import files
from mlegfn.data.images import pixels_sha256
from mlegfn.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from mlegfn.data.archive import Pixels
    from mlegfn.data.cifar10_batches import Dataset, Split, Splits

__all__ = ["read"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {
    "train": tuple(f"data_batch_{k}" for k in range(1, 6)),
    "test": ("test_batch",),
}
PER_BATCH = 10_000
KNOWN = 1017
# SHA-256 of the first KNOWN images of every batch of a split: of the levels [N, C, H, W], as
# images.pixels_sha256 computes it (data.sha256_* of the scale cifar10_cpu), and of the labels, a byte each.
PIXELS = {
    "train": "0925b2b5ed6156049796d65173df94003a34fe2c81f86f8d26bb5eab086f0657",
    "test": "2c64b81a519186681be7080da632757a9e060e16b6a4bfe963ef342b6ba0f15c",
}
LABELS = {
    "train": "e97344ddfbb4871d3b6fa8e56f480e8e0c20595df8a53567db76b7e6168f9de8",
    "test": "c5cc3963df7952a390249eaf62a93a87c0fd0f0f2c0a4172c3f19c0a634b6e68",
}
NAME = re.compile(r"(data_batch_[1-5]|test_batch)_([0-9]{1,5})")
OWN_LABEL = "or use these images as `source: archive`, under their own label"


def read(path: Path, per_batch: int | None = None) -> Splits:
    """``((pixels, labels), (pixels, labels))`` of training and test: uint8 [N, 3, 32, 32], int64 [N].

    The batches stand one after the other and are of equal length: at least ``per_batch`` images, the first ones.

    :param path: cifar-10-python.tar.gz, or a folder that holds it or what it unpacks to; or a folder, .zip
        or .tar.* with ``train/<class>/data_batch_1_00000.png`` … ``test/<class>/test_batch_00000.png`` …
    :raises UserError: one line that names the file at fault
    """
    from torchvision.datasets import CIFAR10

    if not path.exists():
        raise UserError(
            f"{path}: not found; name {CIFAR10.filename}, its folder or an archive of PNGs, or unset it to download"
        )
    if path.is_file() and _is_original(path, CIFAR10):
        return cifar10_batches.from_archive(path)
    if (path / CIFAR10.filename).is_file():
        return cifar10_batches.from_archive(path / CIFAR10.filename)
    for folder in (path / CIFAR10.base_folder, path):
        if any((folder / name).is_file() for name, _ in cifar10_batches.files(CIFAR10)):
            return cifar10_batches.from_folder(folder)
    return _images(path, max(per_batch or PER_BATCH, KNOWN))


def _is_original(file: Path, dataset: Dataset) -> bool:
    from torchvision.datasets.utils import calculate_md5

    tar = file.name.endswith((".tar.gz", ".tgz"))
    return file.name == dataset.filename or (tar and calculate_md5(file) == dataset.tgz_md5)


def _images(path: Path, count: int) -> Splits:
    """The first ``count`` images of every batch, from files of any order."""
    from tqdm import tqdm

    # (batch, index) → (name, pixels, label)
    images: dict[tuple[str, int], tuple[str, Pixels | None, int]] = {}
    for name, content in tqdm(files(path), desc=f"reading {path.name}", unit=" files", disable=None):
        if (at := place(path, name)) is None:
            continue
        key = _key(path, name, *at[1:])
        if key in images:
            raise UserError(
                f"{path}: {name!r}: is the same image of CIFAR-10 as {images[key][0]!r}; keep one"
            )
        pixels = _pixels(path, name, content) if key[1] < count else None  # None: not wanted
        images[key] = name, pixels, CLASSES.index(at[2])
    wanted = {split: [(b, i) for b in batches for i in range(count)] for split, batches in BATCHES.items()}
    lacking = [key for keys in wanted.values() for key in keys if key not in images]
    if lacking:
        raise UserError(
            f"{path}: lacks {len(lacking)} of the first {count} images of CIFAR-10's batches, beginning with "
            f"{lacking[0][0]}_{lacking[0][1]:05}; name a copy that has them, or unset it to download"
        )
    training, test = (
        _split(path, split, cast("list[tuple[Pixels, int]]", [images[key][1:] for key in keys]))
        for split, keys in wanted.items()
    )
    return training, test


def _key(path: Path, name: str, split: str, label: str) -> tuple[str, int]:
    """(batch, index) that a file's name carries."""
    match = NAME.fullmatch(PurePosixPath(name).stem)
    if match is None:
        raise UserError(
            f"{path}: {name!r}: its name has no batch and index as in data_batch_1_00000.png, so it cannot be "
            f"checked to be CIFAR-10's; name a copy with such names, {OWN_LABEL}"
        )
    if match[1] not in BATCHES[split]:
        raise UserError(f"{path}: {name!r}: an image of {match[1]} does not belong into {split}/; move it")
    if label not in CLASSES:
        raise UserError(f"{path}: {name!r}: CIFAR-10 has no class {label!r}; there are {', '.join(CLASSES)}")
    if int(match[2]) >= PER_BATCH:
        raise UserError(f"{path}: {name!r}: a batch of CIFAR-10 has {PER_BATCH} images; take it out")
    return match[1], int(match[2])


def _pixels(path: Path, name: str, content: bytes) -> Pixels:
    pixels = decode(path, name, content)
    if pixels.shape != (3, 32, 32):
        raise UserError(
            f"{path}: {name!r}: is no RGB image of 32×32, so not CIFAR-10's; get the original, {OWN_LABEL}"
        )
    return pixels


def _split(path: Path, split: str, images: list[tuple[Pixels, int]]) -> Split:
    """Stack (pixels, label) of one split, and prove that it is CIFAR-10's."""
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in images]))
    labels = torch.tensor([label for _, label in images], dtype=torch.int64)
    batches = len(BATCHES[split])
    known = [torch.cat([part[:KNOWN] for part in whole.chunk(batches)]) for whole in (pixels, labels)]
    for what, expected, hashed in (
        ("pixels", PIXELS[split], pixels_sha256(known[0])),
        ("labels", LABELS[split], hashlib.sha256(known[1].to(torch.uint8).numpy().data).hexdigest()),
    ):
        if hashed != expected:
            raise UserError(
                f"{path}: not CIFAR-10's own {split} images (re-encoded as JPEG, say): SHA-256 of the {what} of the "
                f"first {KNOWN} of each batch: expected {expected}, found {hashed}; name a lossless copy, {OWN_LABEL}"
            )
    return pixels, labels
