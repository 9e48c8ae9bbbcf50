"""The contrastive loss, and retrieval: how often the nearest is the right one."""

import torch
from torch.nn import functional as F

__all__ = ["contrastive_loss", "retrieved", "top_1"]


def contrastive_loss(logits):
    """Symmetric InfoNCE of logits [N, N] whose pairs lie on the diagonal, nats.

    The mean of the cross-entropies of picking each image's caption and each caption's image out of N (Radford et al.
    2021, Fig. 3). N captions that differ: an equal one in another row would count as wrong.

    :raises ValueError: for logits that are not square
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(f"a contrast needs as many images as captions, got logits {list(logits.shape)}")
    pairs = torch.arange(len(logits))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def retrieved(queries, candidates):
    """int64 [N]: for each of queries [N, E] the index of the candidate [M, E] with the largest inner product."""
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"queries and candidates must be [N, E] and [M, E], got {list(queries.shape)} and {list(candidates.shape)}"
        )
    return (queries @ candidates.T).argmax(1)


def top_1(queries, candidates, right):
    """bool [N]: whether query n retrieves candidate right[n]. At random, true once in M."""
    return retrieved(queries, candidates) == right
