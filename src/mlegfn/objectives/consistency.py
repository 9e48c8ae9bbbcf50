"""Trajectory-balance consistency (TBC)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlegfn.objectives.checks import log_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["consistency", "huber_consistency"]


def consistency(log_w: Tensor) -> Tensor:
    """Trajectory-balance consistency, [B, M] → [B], nats²: the unbiased variance of log w over trajectories of one x.

        1/(M−1) Σ_m (log w_m − mean)²  =  ½ · mean over pairs of (log w_m − log w_m′)²

    For M = 2 it is *half* of the paper's eq. 33 (arXiv 2209.02606), (log w(τ) − log w(τ′))², so a λ
    quoted here is twice the λ of that form. Zero exactly if log w is the same for all trajectories.

    :param log_w: [B, M], nats; of M ≥ 2 *joint* trajectories of each of B data points; states that were drawn
        independently for each t have another variance, which says nothing of balance
    :raises ValueError: for other shapes, fewer than two trajectories, values that are not finite

    >>> import torch
    >>> consistency(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))  # half of (1 − 3)², and balance
    tensor([2., 0.])
    """
    log_weights(log_w, least=2)
    return log_w.var(1, correction=1)


def huber_consistency(log_w: Tensor, delta: float) -> Tensor:
    """Consistency that outliers cannot dominate, [B, M] → [B], nats²: linear in residuals beyond ``delta`` nats.

    With r_m = log w_m − mean: 1/(M−1) Σ_m r_m² if |r_m| ≤ δ, else δ(2|r_m| − δ) (Huber 1964, twice
    its usual scale so that it equals ``consistency`` for small residuals). Bounds what one
    outlying trajectory can do to the gradient.

    :param log_w: as of ``consistency``
    :param delta: δ, nats
    :raises ValueError: as ``consistency``, and for δ that is not > 0

    >>> import torch
    >>> log_w = torch.tensor([[0.0, 20.0]])  # residuals of ∓10 nats
    >>> consistency(log_w), huber_consistency(log_w, delta=1.0)  # 2 · 10², 2 · 1 · (2 · 10 − 1)
    (tensor([200.]), tensor([38.]))
    """
    log_weights(log_w, least=2)
    if not delta > 0:
        raise ValueError(f"delta must be > 0 nats, got {delta}")
    size = (log_w - log_w.mean(1, keepdim=True)).abs()
    capped = size.clamp(max=delta)
    return (capped * (2 * size - capped)).sum(1) / (log_w.shape[1] - 1)
