"""Objects made of D entries with L ordered levels each, as the two autoregressive families see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from mlegfn.data import digits

if TYPE_CHECKING:
    from torch import Tensor

    from mlegfn.families.shared.family import Settings

__all__ = ["EMPTY", "all_of", "digits_rows", "log_frequencies", "unary"]

EMPTY = -1


def unary(x: Tensor, levels: int) -> Tensor:
    """[N, D, levels] bool: is the entry filled, ≥ 1, ≥ 2, …? ``x`` int64 [N, D], −1 where empty.

    Not one-hot, because levels are ordered: with one-hot inputs a small network has to learn from few images that
    grey 7 is like grey 8.
    """
    return x[..., None] > torch.arange(-1, levels - 1, device=x.device)


def log_frequencies(x: Tensor, levels: int) -> Tensor:
    """[D, levels]: log of how often entry i has each level in ``x`` [N, D], each counted once more (Laplace): the
    best model of independent entries, from which an output layer's bias starts."""
    counts = F.one_hot(x, levels).sum(0) + 1.0
    return (counts / counts.sum(1, keepdim=True)).log()


def digits_rows(settings: Settings) -> tuple[Tensor, Tensor, int]:
    """scikit-learn's digits as rows: (train [N, 64], test [N', 64], int64 0…levels−1, levels)."""
    data = digits.load()
    train = data.train_images.flatten(1).long()[: settings.train_points]
    return train, data.test_images.flatten(1).long()[: settings.test_points], data.levels


def all_of(length: int, levels: int) -> Tensor | None:
    """Every object [levels^length, length], or None if there are more than 2^16."""
    if levels**length > 2**16:
        return None
    return torch.cartesian_prod(*[torch.arange(levels)] * length).view(-1, length)
