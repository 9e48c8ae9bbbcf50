"""KL-trajectory balance D_KL(P_B ‖ P_F) from trajectories of P_B, for policies whose steps are choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlegfn.objectives.checks import log_weights
from mlegfn.objectives.control_variates import others

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["kl_trajectory_balance"]


def kl_trajectory_balance(log_pf: Tensor, log_pb: Tensor) -> Tensor:
    """[B, M] each, M ≥ 2 trajectories τ ~ P_B(·|x) of each x → [B]: the *value* is −ELBO, nats, the *gradient* an
    unbiased one of it, also for a P_B whose steps are discrete choices; log_pf includes log p(x_T).

        ∇(−ELBO) = E[−∇ log P_F(τ) − (log w(τ) − b) ∇ log P_B(τ|x)],   b the mean log w of the other trajectories.

    The second term is the score function's (Williams 1992) with the leave-one-out control variate (Kool et al.
    2019); E ∇ log P_B = 0, so the ``+ log P_B`` in −log w adds nothing. It is half of the gradient of the variance
    over the same trajectories, held fixed (Richter et al. 2020, arXiv 2010.10436).
    Raises ValueError for fewer than two trajectories or values that are not finite.
    """
    log_w = log_pf - log_pb
    log_weights(log_w, least=2)
    weight = log_w.detach()
    surrogate = -(log_pf + (weight - others(weight, 1)) * log_pb).mean(1)
    return surrogate - (surrogate + log_w.mean(1)).detach()
