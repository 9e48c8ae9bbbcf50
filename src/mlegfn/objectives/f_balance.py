"""f-trajectory balance: losses whose on-policy gradient is a divergence's, and which hold off-policy too.

With δ(τ) = log P_F(τ) + log Z − log P_B(τ|x) − log R(x), at the true Z the log of P_F/p̄_B, the gradient of every
f-divergence of P_F from p̄_B is E_{P_F}[h(δ) ∇log P_F]. E_{P_F} ∇log P_F = 0, so a constant may be taken from h, and

    ℓ(δ) = ∫_0^δ (h(u) − h(0)) du        has        E_{P_F} ∇ℓ(δ) = the divergence's gradient

with the gradient *inside*. Where h increases, ℓ is convex, ≥ 0, and 0 at δ = 0 alone: whatever trajectories it is
averaged over, as long as all can occur, it is least at balance (Fawkes & Hartford 2026, arXiv 2605.15417). With
φ(u) = e^u − 1 − u:

    reverse KL  D(P_F‖p̄_B)                               h = δ                         ℓ = δ²/2
    forward KL  D(p̄_B‖P_F)                               h = −e^{−δ}                   ℓ = φ(−δ)
    Tsallis-α   ±(∫ P_F^α p̄_B^{1−α} − 1) / (α−1)         h = |α| e^{(α−1)δ} / (α−1)    ℓ = |α| φ((α−1)δ) / (α−1)²

± is the sign of α, as in ``divergences``; with it h' = |α| e^{(α−1)δ} > 0 on either side of 0 and of 1. α → 1 is
reverse KL, and α → 0 divided by |α| forward KL. Reverse KL is half of trajectory balance. At the log Z that is best for the batch, E ℓ' = 0, forward KL's and Tsallis' gradients are along those of
``divergences`` with the control variate ``combined``, which therefore holds off-policy as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlegfn.objectives.checks import finite, shapes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["f_trajectory_balance"]

DIVERGENCES = ("forward_kl", "reverse_kl", "tsallis")


def f_trajectory_balance(
    log_pf: Tensor,
    log_pb: Tensor,
    log_reward: Tensor,
    log_z: Tensor,
    divergence: str = "forward_kl",
    alpha: float = 0.5,
    bound: float = 10.0,
) -> Tensor:
    """f-trajectory balance, [N], [N], [N], [] → [N], ≥ 0: ℓ(δ), δ = log Z + log P_F − log P_B − log R.

    ℓ is convex and 0 at δ = 0 alone, so that trajectories of *any* policy that can take all of them will do
    (Fawkes & Hartford 2026, arXiv 2605.15417); ℓ of each divergence is above, in this module's docstring.

    :param log_pf: [N], nats; log P_F(τ)
    :param log_pb: [N], nats; log P_B(τ|x)
    :param log_reward: [N], nats; log R(x)
    :param log_z: [], nats; log Z, usually learned with the policy
    :param divergence: ``forward_kl``, ``reverse_kl`` or ``tsallis``
    :param alpha: α of ``tsallis``, neither 0 nor 1
    :param bound: nats; where the exponent, −δ or (α−1)δ, is beyond it, ℓ goes on as its tangent there, so that nothing
        overflows and one trajectory's gradient is at most of e^bound. That changes the loss (and the on-policy gradient)
        there, not its zero nor its convexity; ∞ leaves ℓ as it is. Reverse KL has no exponent
    :raises ValueError: for shapes that do not match, values that are not finite, an unknown divergence, α = 0 or 1, a
        bound that is not > 0

    >>> import torch
    >>> zero, log_z = torch.zeros(2), torch.tensor(0.0)
    >>> f_trajectory_balance(torch.tensor([0.0, 2.0]), zero, zero, log_z, "reverse_kl")  # δ²/2
    tensor([0., 2.])
    >>> f_trajectory_balance(torch.tensor([0.0, -1.0]), zero, zero, log_z)  # e − 1 − 1
    tensor([0.0000, 0.7183])
    """
    shapes(log_pf=(log_pf, "N"), log_pb=(log_pb, "N"), log_reward=(log_reward, "N"), log_z=(log_z, ""))
    finite(log_pf=log_pf, log_pb=log_pb, log_reward=log_reward, log_z=log_z)
    if divergence not in DIVERGENCES:
        raise ValueError(f"no divergence {divergence!r}; there are {', '.join(DIVERGENCES)}")
    if not bound > 0:
        raise ValueError(f"bound must be > 0 nats, got {bound}")
    delta = log_z + log_pf - log_pb - log_reward
    if divergence == "reverse_kl":
        return delta.square() / 2
    if divergence == "forward_kl":
        return _excess(-delta, bound)
    if alpha == 1:
        raise ValueError("alpha = 1 is the KL divergence: use reverse_kl or forward_kl")
    if alpha == 0:
        raise ValueError("alpha = 0 gives no loss: the divergence is zero everywhere; use forward_kl")
    return abs(alpha) / (alpha - 1) ** 2 * _excess((alpha - 1) * delta, bound)


def _excess(u: Tensor, bound: float) -> Tensor:
    """φ(u) = e^u − 1 − u up to u = bound, its tangent beyond."""
    if bound == math.inf:
        return u.expm1() - u
    inside = u.clamp(max=bound)
    return inside.expm1() - u + math.exp(bound) * (u - bound).relu()
