"""MLE-GFN's loss on bit strings: the bound's gradient for both policies, and trajectory-balance consistency."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlegfn.objectives.consistency import consistency

if TYPE_CHECKING:
    from mlegfn.bits.filling import BitFilling

__all__ = ["backward_loss", "consistency_loss", "forward_loss", "log_policies", "reward_to_go", "times"]


def times(count: int, timesteps: int, strata: int, generator: torch.Generator) -> Tensor:
    """[count, strata] int64 in 1…T, rising: one time of each of ``strata`` equal parts of (0, T].

    Every t occurs strata/T times on average, so a sum over t is estimated without bias by T/strata times the sum
    over these.
    """
    place = (torch.arange(strata) + torch.rand(count, strata, generator=generator)) / strata
    return (place * timesteps).long().clamp_(max=timesteps - 1) + 1


def forward_loss(
    pair: "BitFilling", x: Tensor, steps: Tensor, t: Tensor, average: bool | None = None
) -> Tensor:
    """[N]: T/K · Σ over the K times t [N, K] of −log P_F(x_{t−1}|x_t), whose mean's gradient is that of −ELBO for P_F.

    x [N, D] full strings, steps [N, D] one trajectory τ ~ P_B(·|x) of each, t from :func:`times`. With a uniform P_B,
    which entry was filled from x_t is again uniform over its empty ones, so that average can be taken exactly
    (Hoogeboom et al. 2022, arXiv 2110.02037): the same expectation with less variance.

    :param average: whether it is taken; None: where P_B is uniform. Raises ValueError for True where it is not: a
        policy that prefers some entries does not fill them uniformly either.
    """
    average = pair.uniform if average is None else average
    if average and not pair.uniform:
        raise ValueError("the average over the entries is the bound's for a uniform P_B only")
    count, strata = t.shape
    rows = torch.arange(count).repeat_interleave(strata)
    xs, steps, at = x[rows], steps[rows], t.flatten()
    log_pf = pair.fills(xs, pair.state(xs, steps, at))
    if average:
        log_pf = torch.where(steps <= at[:, None], log_pf, 0.0).sum(1) / at
    else:
        log_pf = log_pf.gather(1, (steps == at[:, None]).long().argmax(1, keepdim=True))
    return -log_pf.view(count, strata).sum(1) * (x.shape[1] / strata)


def backward_loss(log_pf: Tensor, log_pb: Tensor) -> Tensor:
    """[N]: its mean's gradient is that of −ELBO for P_B, by the score function; log_pf, log_pb [N, M, T].

    log P_B of step t multiplies what comes from t on, Σ_{t′≥t} [log P_F − log P_B], for what came before does not
    depend on it. The other M − 1 trajectories of the same x are the baseline. The term E[∇ log P_B] is zero and left
    out. Whole trajectories: with a part of the steps the sum is unbiased too, and its variance a hundred times larger.
    """
    return -(reward_to_go((log_pf - log_pb).detach()) * log_pb).sum(2).mean(1)


def reward_to_go(gain: Tensor) -> Tensor:
    """[N, M, T] → [N, M, T]: Σ_{t′≥t} gain minus the mean of the same over the other M − 1 trajectories."""
    if gain.shape[1] < 2:
        raise ValueError("a learned P_B needs at least two trajectories of each x")
    later = gain.flip(2).cumsum(2).flip(2)
    return (later - later.mean(1, keepdim=True)) * gain.shape[1] / (gain.shape[1] - 1)


def consistency_loss(log_pf: Tensor, log_pb: Tensor, policy: str = "both") -> Tensor:
    """[N] nats²: the variance of log w over M trajectories of each x, which are held fixed; log_pf, log_pb [N, M, T].

    :param policy: "forward", "backward" or "both": the one(s) that it trains
    """
    if policy == "forward":
        log_pb = log_pb.detach()
    elif policy == "backward":
        log_pf = log_pf.detach()
    return consistency((log_pf - log_pb).sum(2))


def log_policies(pair: "BitFilling", x: Tensor, steps: Tensor, backward: bool) -> Tensor:
    """[N, T]: log P_B(x_t|x_{t−1}) or log P_F(x_{t−1}|x_t) of whole trajectories, entry t−1, in one call.

    The same numbers as trajectory.score gives, without its checks of states.
    """
    count, length = steps.shape
    xs, flat = x.repeat_interleave(length, 0), steps.repeat_interleave(length, 0)
    t = torch.arange(1, length + 1).repeat(count)
    if backward:
        log_probs = pair.empties(pair.state(xs, flat, t - 1))
    else:
        log_probs = pair.fills(xs, pair.state(xs, flat, t))
    place = steps.argsort(1).flatten()[:, None]  # the entry of step t
    return log_probs.gather(1, place).view(count, length)
