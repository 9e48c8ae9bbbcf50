"""CIFAR-10 (A. Krizhevsky, 2009): from torchvision, or from a local copy named by ``MLEGFN_MIRROR``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mlegfn.data import cifar10_batches, cifar10_mirror
from mlegfn.data.images import Images
from mlegfn.errors import UserError

if TYPE_CHECKING:
    from mlegfn.data.cifar10_batches import Split, Splits

__all__ = ["load"]


def load(per_batch: int | None = None) -> Images:
    """5 · ``per_batch`` + ``per_batch`` colour images of 32×32 in 256 levels; equal whichever way they come.

    Order: the first ``per_batch`` of data_batch_1 in file order, then of data_batch_2, …; labels in CIFAR-10's
    own order of classes, airplane … truck.

    :param per_batch: images of each of the six batches, the first ones; None = all 10,000
    :raises UserError: one line that names the file at fault
    """
    mirror = os.environ.get("MLEGFN_MIRROR")
    splits = _mirrored(Path(mirror).expanduser(), per_batch) if mirror else cifar10_batches.cached()
    train, test = (_first(split, batches, per_batch) for split, batches in zip(splits, (5, 1)))
    return Images(
        *train,
        *test,
        levels=256,
        label="cifar10",
        classes=10,
        source="cifar10",
    )


def _mirrored(path: Path, per_batch: int | None) -> Splits:
    try:
        return cifar10_mirror.read(path, per_batch)
    except UserError as error:
        raise UserError(f"MLEGFN_MIRROR: {error}") from None
    except OSError as error:
        raise UserError(
            f"MLEGFN_MIRROR: {path}: cannot be read ({error.strerror}); make it readable, or name another copy"
        ) from None


def _first(split: Split, batches: int, per_batch: int | None) -> Split:
    """Pixels [N, C, H, W] and labels [N] of equal batches one after the other, each cut to its first images."""
    pixels, labels = (torch.cat([part[:per_batch] for part in tensor.chunk(batches)]) for tensor in split)
    return pixels, labels
