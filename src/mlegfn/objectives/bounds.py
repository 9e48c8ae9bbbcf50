"""Lower bounds on log p(x) from log-weights of trajectories τ ~ P_B(·|x)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlegfn.objectives.checks import log_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["elbo", "importance_weighted"]


def elbo(log_w: Tensor) -> Tensor:
    """[B, M] → [B], nats: mean over trajectories of log w(τ); its expectation is ≤ log p(x).

    The evidence lower bound; DDPM (Ho et al. 2020, arXiv 2006.11239, eq. 3).
    Raises ValueError for shapes other than [B, M] or values that are not finite.
    """
    log_weights(log_w, least=1)
    return log_w.mean(1)


def importance_weighted(log_w: Tensor) -> Tensor:
    """[B, M] → [B], nats: log (1/M) Σ_m w(τ_m); tighter with M, and equal to log p(x) as M → ∞.

    Burda et al. 2016, arXiv 1509.00519, eq. 8.
    Raises ValueError for shapes other than [B, M] or values that are not finite.
    """
    log_weights(log_w, least=1)
    return log_w.logsumexp(1) - math.log(log_w.shape[1])
