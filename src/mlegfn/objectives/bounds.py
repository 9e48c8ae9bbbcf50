"""Lower bounds on log p(x) from log-weights of trajectories τ ~ P_B(·|x)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlegfn.objectives.checks import log_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["elbo", "importance_weighted"]


def elbo(log_w: Tensor) -> Tensor:
    """The evidence lower bound, [B, M] → [B], nats: mean over trajectories of log w(τ); its expectation is ≤ log p(x).

    log w(τ) = log p(x_T) + Σ_t [log P_F(x_{t−1}|x_t) − log P_B(x_t|x_{t−1})], DDPM's bound (Ho et al. 2020, arXiv
    2006.11239, eq. 3).

    :param log_w: [B, M], nats; of M ≥ 1 trajectories τ ~ P_B(·|x) of each of B data points
    :raises ValueError: for other shapes, no trajectory, values that are not finite

    >>> import torch
    >>> elbo(torch.tensor([[-1.0, -3.0]]))
    tensor([-2.])
    """
    log_weights(log_w, least=1)
    return log_w.mean(1)


def importance_weighted(log_w: Tensor) -> Tensor:
    """The importance-weighted bound, [B, M] → [B], nats: log (1/M) Σ_m w(τ_m); its expectation is ≤ log p(x).

    Tighter with M, and equal to log p(x) as M → ∞; with M = 1 it is ``elbo`` (Burda et al. 2016, arXiv 1509.00519,
    eq. 8).

    :param log_w: [B, M], nats; of M ≥ 1 independent trajectories τ ~ P_B(·|x) of each of B data points
    :raises ValueError: for other shapes, no trajectory, values that are not finite

    >>> import torch
    >>> weights = torch.tensor([[1.0, 3.0]])  # of which the mean is 2
    >>> importance_weighted(weights.log()).exp()
    tensor([2.])
    """
    log_weights(log_w, least=1)
    return log_w.logsumexp(1) - math.log(log_w.shape[1])
