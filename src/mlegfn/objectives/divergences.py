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

What these functions return is to be differentiated and nothing else; what the divergences *are* is estimated in
``divergence_values``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlegfn.objectives.checks import finite, shapes
from mlegfn.objectives.control_variates import combined, surrogate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

__all__ = ["forward_kl", "renyi", "reverse_kl", "tsallis"]


def reverse_kl(
    log_pf: Tensor,
    log_pb: Tensor,
    log_reward: Tensor,
    control_variate: str = "combined",
    parameters: Iterable[Tensor] | None = None,
) -> Tensor:
    """The reverse KL divergence D_KL(P_F‖p̄_B) = E_{τ~P_F}[s(τ)] + log Z, as a surrogate for its gradient.

    s = log P_F(τ) − log P_B(τ|x) − log R(x), and the gradient is E[∇s + s ∇log P_F] (da Silva et al. 2024, arXiv
    2410.09355, §3). ``combined`` leaves out the first term, ∇log P_F, whose mean is zero. ``none`` and ``leave_one_out``
    keep it: at balance their variances are (1 − log Z)² and 1, in units of that of ∇log P_F, and that of ``combined`` 0.

    :param log_pf: [N], nats; log P_F(τ) of each trajectory, with its graph to the policy's parameters. The trajectories
        must be the policy's own as it is now (on-policy): others train towards something else, and nothing here can see it
    :param log_pb: [N], nats; log P_B(τ|x)
    :param log_reward: [N], nats; log R(x), of an R that need not be normalised; log Z is never needed
    :param control_variate: a name of ``control_variates.CONTROL_VARIATES``; it changes the variance of the gradient
    :param parameters: the policy's, only for ``score…`` and ``both…``
    :return: [], a *surrogate*; its ``.backward()`` leaves the estimate of the divergence's gradient in the parameters.
        Its value is not the divergence; ``divergence_values.reverse_kl_value`` estimates that
    :raises ValueError: for shapes that differ, values that are not finite (a reward of zero), an unknown control variate,
        missing parameters, or one trajectory alone where others are its baseline

    >>> import torch
    >>> logits = torch.zeros(2, requires_grad=True)  # two objects, one trajectory to each, R = 1 and 3
    >>> log_pf, log_reward = logits.log_softmax(0), torch.tensor([1.0, 3.0]).log()
    >>> reverse_kl(log_pf, torch.zeros(2), log_reward).backward()
    >>> bool(logits.grad[1] < 0 < logits.grad[0])  # descent makes the object of the larger reward more probable
    True
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
    """The forward KL divergence D_KL(p̄_B‖P_F), as a surrogate for its gradient.

    The gradient −E_{p̄_B}[∇log P_F] is taken by importance weights from P_F: it is E_{τ~P_F}[h ∇log P_F] with
    h = −e^{−s} / Z, s = log P_F(τ) − log P_B(τ|x) − log R(x) (da Silva et al. 2024, arXiv 2410.09355, §3); Z is left out
    with ``log_scale``. There is no first term, so ``score`` changes nothing, and ``both`` and ``combined`` are
    ``leave_one_out``.

    :param log_pf: [N], nats; log P_F(τ) of each trajectory, with its graph to the policy's parameters. The trajectories
        must be the policy's own as it is now (on-policy): others train towards something else, and nothing here can see it
    :param log_pb: [N], nats; log P_B(τ|x)
    :param log_reward: [N], nats; log R(x), of an R that need not be normalised; log Z is never needed
    :param control_variate: a name of ``control_variates.CONTROL_VARIATES``; it changes the variance of the gradient
    :param parameters: the policy's, only for ``score…`` and ``both…``
    :param log_scale: nats; the log-weights are divided by it (subtracted in logs), default the largest of the batch
    :return: [], a *surrogate*; its ``.backward()`` leaves the estimate of the divergence's gradient in the parameters.
        Its value is not the divergence; ``divergence_values.forward_kl_value`` estimates that
    :raises ValueError: for shapes that differ, values that are not finite (a reward of zero), an unknown control variate,
        missing parameters, or one trajectory alone where others are its baseline

    >>> import torch
    >>> logits = torch.zeros(2, requires_grad=True)  # two objects, one trajectory to each, R = 1 and 3
    >>> log_pf, log_reward = logits.log_softmax(0), torch.tensor([1.0, 3.0]).log()
    >>> forward_kl(log_pf, torch.zeros(2), log_reward).backward()
    >>> bool(logits.grad[1] < 0 < logits.grad[0])  # descent makes the object of the larger reward more probable
    True
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
    """The Tsallis-α divergence ±(∫ P_F^α p̄_B^{1−α} − 1)/(α−1), times Z^{1−α} and a scale, as a surrogate.

    The gradient is ±1/(α−1) · E_{τ~P_F}[∇g + g ∇log P_F] with g = e^{(α−1)s}, s = log P_F(τ) − log P_B(τ|x) − log R(x)
    (da Silva et al. 2024, arXiv 2410.09355, §3); ± is the sign of α (:mod:`mlegfn.objectives.divergences` says why).
    Z^{1−α} is one factor for the whole batch.

    :param log_pf: [N], nats; log P_F(τ) of each trajectory, with its graph to the policy's parameters. The trajectories
        must be the policy's own as it is now (on-policy): others train towards something else, and nothing here can see it
    :param log_pb: [N], nats; log P_B(τ|x)
    :param log_reward: [N], nats; log R(x), of an R that need not be normalised; log Z is never needed
    :param control_variate: a name of ``control_variates.CONTROL_VARIATES``; it changes the variance of the gradient
    :param parameters: the policy's, only for ``score…`` and ``both…``
    :param alpha: the order α, neither 0 nor 1; below 0 and near it mass is covered, above 1 modes are sought
    :param log_scale: nats; the log-weights are divided by it (subtracted in logs), default the largest of the batch
    :return: [], a *surrogate*; its ``.backward()`` leaves the estimate of the divergence's gradient in the parameters.
        Its value is not the divergence; ``divergence_values.tsallis_value`` estimates that
    :raises ValueError: for shapes that differ, values that are not finite (a reward of zero), an unknown control variate,
        missing parameters, α = 0 or 1, or one trajectory alone where others are its baseline

    >>> import torch
    >>> logits = torch.zeros(2, requires_grad=True)  # two objects, one trajectory to each, R = 1 and 3
    >>> log_pf, log_reward = logits.log_softmax(0), torch.tensor([1.0, 3.0]).log()
    >>> tsallis(log_pf, torch.zeros(2), log_reward, alpha=0.5).backward()
    >>> bool(logits.grad[1] < 0 < logits.grad[0])  # descent makes the object of the larger reward more probable
    True
    """
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
    """The Rényi-α divergence ±log ∫ P_F^α p̄_B^{1−α} / (α−1), as a surrogate for its gradient.

    The gradient is ±1/((α−1) E g) · E_{τ~P_F}[∇g + g ∇log P_F] with g = e^{(α−1)s}, s = log P_F(τ) − log P_B(τ|x) −
    log R(x) (da Silva et al. 2024, arXiv 2410.09355, §3); ± is the sign of α (:mod:`mlegfn.objectives.divergences` says
    why). E g is the batch's mean, so that the ratio is biased as 1/N.

    :param log_pf: [N], nats; log P_F(τ) of each trajectory, with its graph to the policy's parameters. The trajectories
        must be the policy's own as it is now (on-policy): others train towards something else, and nothing here can see it
    :param log_pb: [N], nats; log P_B(τ|x)
    :param log_reward: [N], nats; log R(x), of an R that need not be normalised; log Z is never needed
    :param control_variate: a name of ``control_variates.CONTROL_VARIATES``; it changes the variance of the gradient
    :param parameters: the policy's, only for ``score…`` and ``both…``
    :param alpha: the order α, neither 0 nor 1; below 0 and near it mass is covered, above 1 modes are sought
    :return: [], a *surrogate*; its ``.backward()`` leaves the estimate of the divergence's gradient in the parameters.
        Its value is not the divergence; ``divergence_values.renyi_value`` estimates that
    :raises ValueError: for shapes that differ, values that are not finite (a reward of zero), an unknown control variate,
        missing parameters, α = 0 or 1, or one trajectory alone where others are its baseline

    >>> import torch
    >>> logits = torch.zeros(2, requires_grad=True)  # two objects, one trajectory to each, R = 1 and 3
    >>> log_pf, log_reward = logits.log_softmax(0), torch.tensor([1.0, 3.0]).log()
    >>> renyi(log_pf, torch.zeros(2), log_reward, alpha=0.5).backward()
    >>> bool(logits.grad[1] < 0 < logits.grad[0])  # descent makes the object of the larger reward more probable
    True
    """
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
