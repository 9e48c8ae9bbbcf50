"""CIFAR-10 (A. Krizhevsky, 2009) by torchvision, which checks the MD5 of every file before it opens it."""

import os
import tempfile
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch

from mlegfn.data.images import Images
from mlegfn.errors import UserError


def folder():
    """Where CIFAR-10 is kept: ``$MLEGFN_DATA``, else data/.cache."""
    return Path(os.environ.get("MLEGFN_DATA") or "data/.cache")


def load(root=None):
    """50,000 + 10,000 colour images of 32×32 in 256 levels; downloads only what is not there.

    :param root: the folder with cifar-10-python.tar.gz or what it unpacks to; default :func:`folder`
    """
    root = Path(root or folder())
    train, test = _splits(root)
    return Images(
        *(tensor for split in (train, test) for tensor in _tensors(split)),
        levels=256,
        label="cifar10",
        classes=len(train.classes),
        source="cifar10",
    )


def _tensors(split):
    """torchvision's [N, H, W, C] array and list as uint8 [N, C, H, W] and int64 [N]."""
    pixels = np.ascontiguousarray(split.data.transpose(0, 3, 1, 2))
    return torch.from_numpy(pixels), torch.tensor(split.targets, dtype=torch.int64)


def _splits(root):
    """torchvision's two splits. Its pickles are opened only after their MD5 was found right."""
    from torchvision.datasets import CIFAR10

    try:
        return CIFAR10(root, train=True), CIFAR10(root, train=False)
    except RuntimeError:  # not there, or some file's MD5 is wrong
        _archive(root, CIFAR10)
    try:
        return CIFAR10(root, train=True, download=True), CIFAR10(root, train=False)
    except (RuntimeError, OSError, EOFError) as error:
        raise UserError(
            f"{root / CIFAR10.base_folder}: CIFAR-10 could not be unpacked ({error}); remove the folder and run again"
        ) from None


def _archive(root, dataset):
    """Make sure that the archive lies in ``root`` and is the right one."""
    from torchvision.datasets.utils import calculate_md5, download_url

    file = root / dataset.filename
    if file.exists():
        if (found := calculate_md5(file)) != dataset.tgz_md5:
            raise UserError(
                f"{file}: altered or truncated: MD5 expected {dataset.tgz_md5}, found {found}; "
                "remove it, and it is downloaded anew, or put the right one in its place"
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
            f"(MD5 {dataset.tgz_md5}) there, or set MLEGFN_DATA to the folder that holds it"
        ) from None
