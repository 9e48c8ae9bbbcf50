"""Trajectory-balance consistency (TBC)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlegfn.objectives.checks import log_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["consistency", "huber_consistency"]


def consistency(log_w: Tensor) -> Tensor:
    """[B, M] → [B], nats²: the unbiased variance of log w over M ≥ 2 trajectories of the same x.

        1/(M−1) Σ_m (log w_m − mean)²  =  ½ · mean over pairs of (log w_m − log w_m′)²

    For M = 2 it is *half* of the paper's eq. 33 (arXiv 2209.02606), (log w(τ) − log w(τ′))², so a λ
    quoted here is twice the λ of that form. Zero exactly if log w is the same for all trajectories.
    Raises ValueError for fewer than two trajectories or values that are not finite.
    """
    log_weights(log_w, least=2)
    return log_w.var(1, correction=1)


def huber_consistency(log_w: Tensor, delta: float) -> Tensor:
    """[B, M] → [B]: as ``consistency``, but linear in residuals beyond ``delta`` nats.

    With r_m = log w_m − mean: 1/(M−1) Σ_m r_m² if |r_m| ≤ δ, else δ(2|r_m| − δ) (Huber 1964, twice
    its usual scale so that it equals ``consistency`` for small residuals). Bounds what one
    outlying trajectory can do to the gradient.
    """
    log_weights(log_w, least=2)
    if not delta > 0:
        raise ValueError(f"delta must be > 0 nats, got {delta}")
    size = (log_w - log_w.mean(1, keepdim=True)).abs()
    capped = size.clamp(max=delta)
    return (capped * (2 * size - capped)).sum(1) / (log_w.shape[1] - 1)
