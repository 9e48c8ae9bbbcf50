"""KL-trajectory balance D_KL(P_B ‖ P_F) from trajectories of P_B, for policies whose steps are choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlegfn.objectives.checks import log_weights
from mlegfn.objectives.control_variates import others

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["kl_trajectory_balance"]


def kl_trajectory_balance(log_pf: Tensor, log_pb: Tensor) -> Tensor:
    """KL-trajectory balance, [B, M] each → [B], nats: the *value* is −ELBO, the *gradient* an unbiased one of it.

    Also for a P_B whose steps are discrete choices, through which no sample can be differentiated:

        ∇(−ELBO) = E[−∇ log P_F(τ) − (log w(τ) − b) ∇ log P_B(τ|x)],   b the mean log w of the other trajectories.

    The second term is the score function's (Williams 1992) with the leave-one-out control variate (Kool et al.
    2019); E ∇ log P_B = 0, so the ``+ log P_B`` in −log w adds nothing. It is half of the gradient of the variance
    over the same trajectories, held fixed (Richter et al. 2020, arXiv 2010.10436).

    :param log_pf: [B, M], nats; log p(x_T) + log P_F(τ), of M ≥ 2 trajectories τ ~ P_B(·|x) of each x
    :param log_pb: [B, M], nats; log P_B(τ|x), of P_B as it is now (on-policy)
    :raises ValueError: for other shapes, fewer than two trajectories, values that are not finite

    >>> import torch
    >>> log_pf, log_pb = torch.tensor([[-3.0, -5.0]]), torch.tensor([[-1.0, -1.0]], requires_grad=True)
    >>> value = kl_trajectory_balance(log_pf, log_pb)
    >>> value.sum().backward()
    >>> value.detach(), log_pb.grad  # log w is −2, −4; what explains x better becomes more probable
    (tensor([3.]), tensor([[-1.,  1.]]))
    """
    log_w = log_pf - log_pb
    log_weights(log_w, least=2)
    weight = log_w.detach()
    surrogate = -(log_pf + (weight - others(weight, 1)) * log_pb).mean(1)
    return surrogate - (surrogate + log_w.mean(1)).detach()
