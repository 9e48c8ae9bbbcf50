"""CIFAR-10's own files by torchvision, which checks the MD5 of every file before it opens it.

Each function gives two splits, ``((pixels, labels), (pixels, labels))``: uint8 [N, 3, 32, 32] and int64 [N].
"""

from __future__ import annotations

import os
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from mlegfn.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from numpy.typing import NDArray
    from torch import Tensor

    from mlegfn.artifacts import StrPath

    Split = tuple[Tensor, Tensor]  # pixels and labels
    Splits = tuple[Split, Split]  # of training and test

    class Loaded(Protocol):
        """A split as torchvision has it."""

        data: NDArray[np.uint8]
        targets: list[int]

    class Dataset(Protocol):
        """torchvision's class CIFAR10."""

        base_folder: str
        url: str
        filename: str
        tgz_md5: str
        train_list: list[list[str]]
        test_list: list[list[str]]
        meta: dict[str, str]

        def __call__(self, root: Path, *, train: bool, download: bool) -> Loaded: ...


__all__ = ["cached", "files", "folder", "from_archive", "from_folder"]


def folder() -> Path:
    """Where a download is kept: ``$MLEGFN_DATA``, else data/.cache."""
    return Path(os.environ.get("MLEGFN_DATA") or "data/.cache")


def cached(root: StrPath | None = None) -> Splits:
    """Both splits; downloads only what is not there.

    :param root: the folder with cifar-10-python.tar.gz or what it unpacks to; default :func:`folder`
    """
    from torchvision.datasets import CIFAR10

    root = Path(root or folder())
    try:
        return _splits(CIFAR10, root)
    except RuntimeError:  # not there, or some file's MD5 is wrong
        _fetch(root, CIFAR10)
    try:
        return _splits(CIFAR10, root, download=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise UserError(
            f"{root / CIFAR10.base_folder}: CIFAR-10 could not be unpacked ({error}); remove the folder and run again"
        ) from None


def from_archive(file: Path) -> Splits:
    """Both splits from cifar-10-python.tar.gz; it is unpacked to a temporary folder, not beside itself."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import extract_archive

    _check(file, CIFAR10.tgz_md5, "put the right one in its place")
    with tempfile.TemporaryDirectory(prefix="mlegfn-") as temporary:
        try:
            extract_archive(file, temporary)
        except (OSError, EOFError) as error:
            raise UserError(
                f"{file}: could not be unpacked to {temporary} ({error}); free some space"
            ) from None
        return from_folder(Path(temporary, CIFAR10.base_folder))


def from_folder(batches: Path) -> Splits:
    """Both splits from the folder that cifar-10-python.tar.gz unpacks to, whatever it is called."""
    from torchvision.datasets import CIFAR10

    for name, md5 in files(CIFAR10):
        if not (batches / name).is_file():
            raise UserError(f"{batches / name}: not found; unpack {CIFAR10.filename} there again")
        _check(batches / name, md5, f"unpack {CIFAR10.filename} there again")
    batches = batches.resolve()
    local = cast("Dataset", type("Local", (CIFAR10,), {"base_folder": batches.name}))
    return _splits(local, batches.parent)


def files(dataset: Dataset) -> list[Sequence[str]]:
    """[(name, MD5)] of everything that is read."""
    return [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]


def _splits(dataset: Dataset, root: Path, download: bool = False) -> Splits:
    """Its pickles are opened only after torchvision found their MD5 right; else a RuntimeError."""
    training, test = (_tensors(dataset(root, train=train, download=download)) for train in (True, False))
    return training, test


def _tensors(split: Loaded) -> Split:
    """torchvision's [N, H, W, C] array and list."""
    pixels = np.ascontiguousarray(split.data.transpose(0, 3, 1, 2))
    return torch.from_numpy(pixels), torch.tensor(split.targets, dtype=torch.int64)


def _check(file: Path, md5: str, remedy: str) -> None:
    from torchvision.datasets.utils import calculate_md5

    if (found := calculate_md5(file)) != md5:
        raise UserError(f"{file}: altered or truncated: MD5 expected {md5}, found {found}; {remedy}")


def _fetch(root: Path, dataset: Dataset) -> None:
    """Make sure that the archive lies in ``root`` and is the right one."""
    from torchvision.datasets.utils import download_url

    file = root / dataset.filename
    if file.exists():
        _check(
            file,
            dataset.tgz_md5,
            "remove it, and it is downloaded anew, or put the right one in its place",
        )
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Download under another name: an interrupted one must not pass for the archive.
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
            download_url(dataset.url, temporary, dataset.filename, dataset.tgz_md5)
            os.replace(Path(temporary) / dataset.filename, file)
    except (RuntimeError, OSError, ValueError, HTTPException) as error:
        raise UserError(
            f"{file}: not found, and the download failed ({' '.join(str(error).split())}); put {dataset.filename} "
            f"(MD5 {dataset.tgz_md5}) there, or set MLEGFN_MIRROR to a copy of it or of its images as PNGs"
        ) from None
