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
    """[B, M] → [B], nats: mean + ½ · unbiased variance of log w over M ≥ 2 trajectories.

    Its expectation is log p(x) up to the third cumulant of log w. It is no bound. Raises ValueError for fewer than two
    trajectories or values that are not finite.
    """
    return elbo(log_w) + consistency(log_w) / 2


def signed_loss(log_w: Tensor, weight: float) -> Tensor:
    """[B, M] → [B], nats: − mean log w + λ · unbiased Var[log w], λ = ``weight`` of either sign (nats⁻¹).

    λ > 0 is trajectory-balance consistency (arXiv 2209.02606, Algorithm 1) on the bound; λ = −½ is minus
    ``second_order``. Raises ValueError as ``consistency``.
    """
    return weight * consistency(log_w) - elbo(log_w)


def group_loss(log_w: Tensor, size: int) -> Tensor:
    """[B, M] → [B], nats: minus the importance-weighted bound with K = ``size`` of M trajectories, mean over M/K groups.

    Burda et al. 2016 (arXiv 1509.00519, eq. 8). In expectation − E[log w] − ½ (1 − 1/K) Var[log w] to second order, that
    is, ``signed_loss`` with λ = −(1 − 1/K)/2. Raises ValueError where K does not divide M, or for values that are not
    finite.
    """
    log_weights(log_w, least=1)
    if size < 1 or log_w.shape[1] % size:
        raise ValueError(f"{log_w.shape[1]} trajectories are not whole groups of {size}")
    groups = importance_weighted(log_w.reshape(-1, size)).view(len(log_w), -1)
    return -groups.mean(1)
