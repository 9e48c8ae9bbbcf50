"""log p(x) to second order in the spread of log w, and the two losses that move it: a variance, and a group's bound.

With K(s) = log E[e^{s·log w}], the cumulant generating function of log w over τ ~ P_B(·|x), log p(x) = K(1), and

    log p(x) = E[log w] + ½ Var[log w] + O(third cumulant)                                    (docs/consistency.md)

so that what maximises the bound E[log w] leaves ½ Var[log w] of log p(x) out of account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlegfn.objectives.bounds import elbo, importance_weighted
from mlegfn.objectives.checks import log_weights
from mlegfn.objectives.consistency import consistency

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["group_loss", "second_order", "signed_loss"]


def second_order(log_w: Tensor) -> Tensor:
    """log p(x) to second order, [B, M] → [B], nats: mean + ½ · unbiased variance of log w over M ≥ 2 trajectories.

    Its expectation is log p(x) up to the third cumulant of log w (docs/consistency.md). It is no bound.

    :param log_w: [B, M], nats; of trajectories τ ~ P_B(·|x)
    :raises ValueError: for other shapes, fewer than two trajectories, values that are not finite

    >>> import torch
    >>> second_order(torch.tensor([[-1.0, -3.0]]))  # −2 + ½ · 2
    tensor([-1.])
    """
    return elbo(log_w) + consistency(log_w) / 2


def signed_loss(log_w: Tensor, weight: float) -> Tensor:
    """The bound with consistency of either sign, [B, M] → [B], nats: − mean log w + λ · unbiased Var[log w].

    λ > 0 is trajectory-balance consistency (arXiv 2209.02606, Algorithm 1) on the bound; λ = −½ is minus
    ``second_order``.

    :param log_w: as of ``consistency``
    :param weight: λ, nats⁻¹
    :raises ValueError: as ``consistency``

    >>> import torch
    >>> log_w = torch.tensor([[-1.0, -3.0]])
    >>> signed_loss(log_w, 0.5), -signed_loss(log_w, -0.5) == second_order(log_w)
    (tensor([3.]), tensor([True]))
    """
    return weight * consistency(log_w) - elbo(log_w)


def group_loss(log_w: Tensor, size: int) -> Tensor:
    """Minus the importance-weighted bound of K of M trajectories, [B, M] → [B], nats: the mean over M/K groups.

    Burda et al. 2016 (arXiv 1509.00519, eq. 8). In expectation − E[log w] − ½ (1 − 1/K) Var[log w] to second order, that
    is, ``signed_loss`` with λ = −(1 − 1/K)/2.

    :param log_w: [B, M], nats; of trajectories τ ~ P_B(·|x)
    :param size: K
    :raises ValueError: where K does not divide M, for other shapes, values that are not finite

    >>> import torch
    >>> log_w = torch.tensor([[1.0, 3.0, 2.0, 2.0]]).log()
    >>> group_loss(log_w, 2).exp()  # both groups of two have the mean 2
    tensor([0.5000])
    """
    log_weights(log_w, least=1)
    if size < 1 or log_w.shape[1] % size:
        raise ValueError(f"{log_w.shape[1]} trajectories are not whole groups of {size}")
    groups = importance_weighted(log_w.reshape(-1, size)).view(len(log_w), -1)
    return -groups.mean(1)
