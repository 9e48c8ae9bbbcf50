"""What the divergences of ``divergences`` are worth, in nats, from the policy's own trajectories: for monitoring.

With s(τ) = log P_F(τ) − log P_B(τ|x) − log R(x) of τ ~ P_F, p̄_B = R(x) P_B(τ|x)/Z and u = s + log Z = log P_F/p̄_B:

    reverse KL   D(P_F‖p̄_B)  = E[u]
    forward KL   D(p̄_B‖P_F)  = E[e^{−u} · (−u)] = Σ w̃ (−u),   w̃ ∝ e^{−s}, Σ w̃ = 1
    Rényi-α      ±log E[e^{(α−1)u}] / (α−1)
    Tsallis-α    ±(E[e^{(α−1)u}] − 1) / (α−1)                                          ± is the sign of α

E is the mean over N trajectories; unlike the gradients, each value needs log Z. Give it where it is known. If not, it is
estimated from the same trajectories, log Ẑ = log mean e^{−s}, whose expectation is ≤ log Z (Jensen; Burda et al. 2016,
arXiv 1509.00519, eq. 8). A policy that never visits a mode knows nothing of that mode's share of Z: reverse KL, and
Rényi-α for α > 0, then come out too small by −log of the share that it visits, however many trajectories there are; the
true forward KL is then infinite. So an estimate without log Z judges the modes that the policy visits, and no others.

All functions compute in float64 and return no graph. Equations: da Silva et al. 2024 (arXiv 2410.09355, §3).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlegfn.objectives.checks import finite, shapes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["estimated_log_z", "forward_kl_value", "renyi_value", "reverse_kl_value", "tsallis_value"]


def estimated_log_z(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor) -> Tensor:
    """[N] each, nats → float64 [], nats: log mean_τ R(x) P_B(τ|x) / P_F(τ), the importance-sampling estimate of log Z.

    Its expectation is at most log Z, and reaches it as N → ∞ for a policy that can take every trajectory (Burda et al.
    2016, arXiv 1509.00519, eq. 8). Raises ValueError for shapes that differ, no trajectory, values that are not finite.

    >>> import torch
    >>> log_pf, log_reward = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 3.0]).log()
    >>> round(estimated_log_z(log_pf, torch.zeros(2), log_reward).exp().item(), 6)
    4.0
    """
    return _log_mean(-_log_ratio(log_pf, log_pb, log_reward))


def reverse_kl_value(
    log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, log_z: Tensor | float | None = None
) -> Tensor:
    """[N] each, nats, τ ~ P_F → float64 [], nats: D_KL(P_F‖p̄_B) = E[s] + log Z, no graph.

    With ``log_z`` unbiased; of finitely many trajectories it may then be negative. Without it, biased downwards by what
    ``estimated_log_z`` is, and never negative. Raises ValueError for shapes that differ, no trajectory, values that are
    not finite (a reward of zero).

    >>> import torch
    >>> log_pf, log_reward = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 3.0]).log()
    >>> round(reverse_kl_value(log_pf, torch.zeros(2), log_reward).item(), 4)  # ½ log(½ / ¼) + ½ log(½ / ¾)
    0.1438
    """
    return _log_target_ratio(log_pf, log_pb, log_reward, log_z).mean()


def forward_kl_value(
    log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, log_z: Tensor | float | None = None
) -> Tensor:
    """[N] each, nats, τ ~ P_F → float64 [], nats: D_KL(p̄_B‖P_F) by self-normalised importance weights, no graph.

    Σ w̃ (−s) − log Z with w̃ ∝ e^{−s}, Σ w̃ = 1: biased as 1/N, with or without ``log_z``. Without it, it lies in
    0 … log N, whatever the divergence is: near log N, one trajectory has all the weight and the number means nothing.
    Raises ValueError for shapes that differ, no trajectory, values that are not finite (a reward of zero).

    >>> import torch
    >>> log_pf, log_reward = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 3.0]).log()
    >>> round(forward_kl_value(log_pf, torch.zeros(2), log_reward).item(), 4)  # ¼ log(¼ / ½) + ¾ log(¾ / ½)
    0.1308
    """
    u = _log_target_ratio(log_pf, log_pb, log_reward, log_z)
    return ((-u).softmax(0) * -u).sum()


def renyi_value(
    log_pf: Tensor,
    log_pb: Tensor,
    log_reward: Tensor,
    alpha: float = 0.5,
    log_z: Tensor | float | None = None,
) -> Tensor:
    """[N] each, nats, τ ~ P_F → float64 [], nats: ±log E[e^{(α−1)(s + log Z)}] / (α−1), no graph.

    ± is the sign of α. The logarithm of a mean is biased as 1/N, for 0 < α < 1 upwards where ``log_z`` is given;
    without it ``estimated_log_z`` adds its own, downwards for α > 0. For α far from 1 few trajectories carry the mean.
    Raises ValueError for α = 0 or 1, shapes that differ, no trajectory, values that are not finite (a reward of zero).

    >>> import torch
    >>> log_pf, log_reward = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 3.0]).log()
    >>> round(renyi_value(log_pf, torch.zeros(2), log_reward, alpha=0.5).item(), 4)  # −2 log Σ √(½ p)
    0.0693
    """
    log_g = _order(alpha) * _log_target_ratio(log_pf, log_pb, log_reward, log_z)
    return math.copysign(1, alpha) * _log_mean(log_g) / (alpha - 1)


def tsallis_value(
    log_pf: Tensor,
    log_pb: Tensor,
    log_reward: Tensor,
    alpha: float = 0.5,
    log_z: Tensor | float | None = None,
) -> Tensor:
    """[N] each, nats, τ ~ P_F → float64 []: ±(E[e^{(α−1)(s + log Z)}] − 1) / (α−1), no unit, no graph.

    ± is the sign of α. With ``log_z`` unbiased; without it biased as 1/N, and for α > 0 downwards by modes that the policy
    does not visit. Raises ValueError for α = 0 or 1, shapes that differ, no trajectory, values that are not finite (a
    reward of zero).

    >>> import torch
    >>> log_pf, log_reward = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 3.0]).log()
    >>> round(tsallis_value(log_pf, torch.zeros(2), log_reward, alpha=0.5).item(), 4)  # −2 (Σ √(½ p) − 1)
    0.0681
    """
    log_g = _order(alpha) * _log_target_ratio(log_pf, log_pb, log_reward, log_z)
    return math.copysign(1, alpha) * _log_mean(log_g).expm1() / (alpha - 1)


def _log_ratio(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor) -> Tensor:
    """float64 [N]: s, without a graph."""
    sizes = shapes(log_pf=(log_pf, "N"), log_pb=(log_pb, "N"), log_reward=(log_reward, "N"))
    if not sizes["N"]:
        raise ValueError("a divergence is estimated from trajectories, and there is none")
    finite(log_pf=log_pf, log_pb=log_pb, log_reward=log_reward)
    return log_pf.detach().double() - log_pb.detach().double() - log_reward.detach().double()


def _log_target_ratio(
    log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, log_z: Tensor | float | None
) -> Tensor:
    """float64 [N]: u = s + log Z, with log Ẑ where no log Z is given."""
    s = _log_ratio(log_pf, log_pb, log_reward)
    if log_z is None:
        return s + _log_mean(-s)
    log_z = float(log_z)
    if not math.isfinite(log_z):
        raise ValueError(f"log_z must be finite, got {log_z}")
    return s + log_z


def _order(alpha: float) -> float:
    """α − 1; ValueError for an α that has no divergence of its own."""
    if alpha in (0, 1):
        raise ValueError(
            f"alpha = {alpha}: use reverse_kl_value or forward_kl_value, the limits at 1 and at 0"
        )
    return alpha - 1


def _log_mean(logs: Tensor) -> Tensor:
    """[N] → []: log mean exp."""
    return logs.logsumexp(0) - math.log(len(logs))
