"""Divergences of the forward policy's trajectories from the target's, by trajectories of the policy itself.

With p̄_B(τ) = R(x) P_B(τ|x) / Z and, for τ ~ P_F (*on-policy*: nothing here is valid for other trajectories),

    s(τ) = log P_F(τ) − log P_B(τ|x) − log R(x)  =  log P_F/p̄_B − log Z,

each gradient is c · E[∇f + f ∇log P_F] with an f that never needs Z (da Silva et al. 2024, arXiv 2410.09355, §3):

    reverse KL   D(P_F‖p̄_B)                               f = s                  c = 1
    forward KL   D(p̄_B‖P_F)                               E[h ∇log P_F],  h = −e^{−s}
    Tsallis-α    ±(∫ P_F^α p̄_B^{1−α} − 1) / (α−1)         f = g = e^{(α−1)s}     c = ±1/(α−1)
    Rényi-α      ±log ∫ P_F^α p̄_B^{1−α} / (α−1)           f = g                  c = ±1/((α−1) E g)

± is the sign of α: for α < 0 the integral is convex and ≥ 1, and 1/(α−1) alone would make the target a maximum. (To
divide by α, as Cressie & Read do, changes the length alone.) At α = 0 both are zero everywhere; divided by α the limit
there is forward KL, and at α = 1 it is reverse KL.

Factors of the whole batch (Z^{α−1}, and ``log_scale``: by default the largest log-weight of the batch, so that nothing
overflows; the paper takes it from an initial batch) change the *length* of the gradients of Tsallis and forward KL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlegfn.objectives.checks import finite, shapes
from mlegfn.objectives.control_variates import combined, surrogate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

__all__ = ["forward_kl", "renyi", "reverse_kl", "tsallis"]

# Of all: log_pf, log_pb, log_reward [N], nats, τ ~ P_F; control_variate, parameters as control_variates.surrogate
# → [], a scalar surrogate: its .backward() leaves the gradient estimate; its value is not the divergence.
# ValueError for shapes that do not match, values that are not finite (a reward of zero), α = 0 or 1.


def reverse_kl(
    log_pf: Tensor,
    log_pb: Tensor,
    log_reward: Tensor,
    control_variate: str = "combined",
    parameters: Iterable[Tensor] | None = None,
) -> Tensor:
    """D_KL(P_F‖p̄_B) = E[s] + log Z.

    ``combined`` leaves out the first term, ∇log P_F, whose mean is zero. ``none`` and ``leave_one_out`` keep it: at
    balance their variances are (1 − log Z)² and 1, in units of that of ∇log P_F, and that of ``combined`` is 0.
    """
    s = _log_ratio(log_pf, log_pb, log_reward)
    if control_variate == "combined":  # E[∇log P_F] = 0, so the first term is noise; P_B's own gradient stays
        return combined(s, log_pf) - (log_pb - log_pb.detach()).mean()
    return surrogate(s, log_pf, control_variate, parameters)


def forward_kl(
    log_pf: Tensor,
    log_pb: Tensor,
    log_reward: Tensor,
    control_variate: str = "combined",
    parameters: Iterable[Tensor] | None = None,
    log_scale: Tensor | float | None = None,
) -> Tensor:
    """D_KL(p̄_B‖P_F), whose gradient −E_{p̄_B}[∇log P_F] is taken by importance weights e^{−s} from P_F.

    There is no first term, so ``score`` changes nothing, and ``both`` and ``combined`` are ``leave_one_out``.
    """
    h = -_weights(-_log_ratio(log_pf, log_pb, log_reward).detach(), log_scale)
    if control_variate in ("leave_one_out", "both", "both_signed", "combined"):
        return combined(h, log_pf)
    return surrogate(h, log_pf, control_variate, parameters)


def tsallis(
    log_pf: Tensor,
    log_pb: Tensor,
    log_reward: Tensor,
    alpha: float = 0.5,
    control_variate: str = "combined",
    parameters: Iterable[Tensor] | None = None,
    log_scale: Tensor | float | None = None,
) -> Tensor:
    """Tsallis-α divergence of P_F from p̄_B, times Z^{1−α} and a scale."""
    g = _weights(_power(log_pf, log_pb, log_reward, alpha), log_scale)
    return _alpha(g, log_pf, alpha, control_variate, parameters)


def renyi(
    log_pf: Tensor,
    log_pb: Tensor,
    log_reward: Tensor,
    alpha: float = 0.5,
    control_variate: str = "combined",
    parameters: Iterable[Tensor] | None = None,
) -> Tensor:
    """Rényi-α divergence of P_F from p̄_B; E[g] by the batch's mean, of which the ratio is biased as 1/N."""
    g = _weights(_power(log_pf, log_pb, log_reward, alpha), None)
    return _alpha(g, log_pf, alpha, control_variate, parameters) / g.detach().mean()


def _alpha(
    g: Tensor, log_pf: Tensor, alpha: float, control_variate: str, parameters: Iterable[Tensor] | None
) -> Tensor:
    """∇g = (α−1) g ∇log P_F, so both terms together are α g ∇log P_F."""
    factor = (1 if alpha > 0 else -1) / (alpha - 1)
    if control_variate == "combined":
        return factor * combined(alpha * g, log_pf)
    return factor * surrogate(g, log_pf, control_variate, parameters)


def _power(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, alpha: float) -> Tensor:
    if alpha == 1:
        raise ValueError("alpha = 1 is the KL divergence: use reverse_kl or forward_kl")
    if alpha == 0:
        raise ValueError("alpha = 0: the divergence is zero everywhere; its limit is forward_kl")
    return (alpha - 1) * _log_ratio(log_pf, log_pb, log_reward)


def _log_ratio(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor) -> Tensor:
    shapes(log_pf=(log_pf, "N"), log_pb=(log_pb, "N"), log_reward=(log_reward, "N"))
    finite(log_pf=log_pf, log_pb=log_pb, log_reward=log_reward)
    return log_pf - log_pb - log_reward


def _weights(log_g: Tensor, log_scale: Tensor | float | None) -> Tensor:
    return (log_g - (log_g.detach().max() if log_scale is None else log_scale)).exp()
