"""The balance conditions of GFlowNets as squared residuals, nats²: zero for all states exactly at a flow.

Trajectories are in the paper's forward order here: ``log_flow[n, i]`` is log F(s_i), entry 0 the source's,
log Z, and entry T the object's, log R(x); ``log_pf[n, i]`` and ``log_pb[n, i]`` belong to the transition s_i
→ s_{i+1}, to log P_F(s_{i+1}|s_i) and log P_B(s_i|s_{i+1}). A ``Trajectory`` counts down, so it gives
``log_pf.flip(0).T``.

Trajectories that end early say so by ``lengths`` [N], the number of their transitions, 1…T: log R(x) then
stands in ``log_flow[n, lengths[n]]``, whatever comes later is ignored (it need not be finite) and gets no
gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlegfn.objectives.checks import finite, shapes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "detailed_balance",
    "flow_matching",
    "log_variance",
    "sub_trajectory_balance",
    "trajectory_balance",
]


def flow_matching(log_inflow: Tensor, log_outflow: Tensor) -> Tensor:
    """Flow matching, [N, P], [N, C] → [N], nats²: (log Σ inflow − log Σ outflow)² of N states, none of them s_0.

    Bengio et al. 2021, arXiv 2106.04399. Z is the sum of the flows out of s_0, no number of its own.

    :param log_inflow: [N, P], nats; log F(s' → s) of the edges from a state's parents, −∞ where there is none
    :param log_outflow: [N, C], nats; those of the edges to its children. The reward belongs to the outflow; an
        object's is log R(x) alone, a state that is an object too has it as one child more
    :raises ValueError: for shapes that do not match, and for a state without any inflow or outflow

    >>> import torch
    >>> inflow, outflow = torch.tensor([[1.0, 2.0], [1.0, 0.0]]), torch.tensor([[3.0], [2.0]])
    >>> flow_matching(inflow.log(), outflow.log())  # 1 + 2 = 3; log² ½
    tensor([0.0000, 0.4805])
    """
    shapes(log_inflow=(log_inflow, "N P"), log_outflow=(log_outflow, "N C"))
    inflow, outflow = log_inflow.logsumexp(1), log_outflow.logsumexp(1)
    finite(log_inflow=inflow, log_outflow=outflow)  # nor are they where a state has no parent or no child
    return (inflow - outflow).square()


def detailed_balance(
    log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, lengths: Tensor | None = None
) -> Tensor:
    """Detailed balance, [N, T+1], [N, T], [N, T] → [N, T], nats²: (log F(s)P_F(s'|s) − log F(s')P_B(s|s'))².

    Bengio et al. 2023, arXiv 2111.09266. One residual a transition, in the paper's forward order.

    :param log_flow: [N, T+1], nats; log F(s_i), first log Z, last log R(x)
    :param log_pf: [N, T], nats; log P_F(s_{i+1}|s_i)
    :param log_pb: [N, T], nats; log P_B(s_i|s_{i+1})
    :param lengths: int64 [N]; transitions of each trajectory, 1…T, if they differ; residuals beyond are 0
    :raises ValueError: for shapes that do not match, lengths outside of 1…T, values that are not finite (a reward of zero)

    >>> import torch
    >>> log_flow = torch.tensor([[4.0, 2.0, 1.0]]).log()  # Z = 4, R = 1
    >>> log_pf, log_pb = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.5]]).log()
    >>> detailed_balance(log_flow, log_pf, log_pb)  # 4 · ½ = 2 · 1; 2 · ½ against 1 · ½: log² 2
    tensor([[0.0000, 0.4805]])
    """
    log_flow, log_ratio, inside = _trajectories(log_flow, log_pf, log_pb, lengths)
    return ((log_flow[:, :-1] - log_flow[:, 1:] + log_ratio) * inside[:, 1:]).square()


def trajectory_balance(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, log_z: Tensor) -> Tensor:
    """Trajectory balance, [N], [N], [N], [] → [N], nats²: (log Z + Σ log P_F − log R(x) − Σ log P_B)².

    Malkin et al. 2022, arXiv 2201.13259. Of trajectories from any policy that can take all of them.

    :param log_pf: [N], nats; Σ log P_F over the steps of each trajectory
    :param log_pb: [N], nats; Σ log P_B
    :param log_reward: [N], nats; log R(x)
    :param log_z: [], nats; log Z, usually learned with the policy at a rate of its own
    :raises ValueError: for shapes that do not match, values that are not finite (a reward of zero)

    >>> import torch
    >>> log_pf, log_reward = torch.tensor([0.25, 0.75]).log(), torch.tensor([1.0, 3.0]).log()
    >>> trajectory_balance(log_pf, torch.zeros(2), log_reward, torch.tensor(4.0).log())  # Z P_F = R
    tensor([0., 0.])
    """
    shapes(log_pf=(log_pf, "N"), log_pb=(log_pb, "N"), log_reward=(log_reward, "N"), log_z=(log_z, ""))
    finite(log_pf=log_pf, log_pb=log_pb, log_reward=log_reward, log_z=log_z)
    return (log_z + log_pf - log_reward - log_pb).square()


def log_variance(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor) -> Tensor:
    """Log-variance, [N], [N], [N] → [N], nats²: trajectory balance at the batch's best log Z; none is learned.

    Squared deviations of log P_F − log R − log P_B from their mean (VarGrad, arXiv 2010.10436). The batch may
    hold trajectories of *different* x, which R tells apart. For trajectories of one x, R cancels and the sum
    over N − 1 is ``consistency.consistency``, which needs no reward: that is for models trained on data.

    :param log_pf: [N], nats; log P_F(τ) of N ≥ 2 trajectories, from any policy that can take all of them
    :param log_pb: [N], nats; log P_B(τ|x)
    :param log_reward: [N], nats; log R(x)
    :raises ValueError: for one trajectory alone, shapes that do not match, values that are not finite

    >>> import torch
    >>> log_variance(torch.tensor([1.0, 3.0]), torch.zeros(2), torch.zeros(2))  # ±1 from the mean, squared
    tensor([1., 1.])
    """
    if log_pf.shape[:1] == (1,):
        raise ValueError("a variance needs at least two trajectories")
    return trajectory_balance(log_pf, log_pb, log_reward, -(log_pf - log_pb - log_reward).mean())


def sub_trajectory_balance(
    log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, lam: float, lengths: Tensor | None = None
) -> Tensor:
    """Sub-trajectory balance, [N, T+1], [N, T], [N, T] → [N], nats²: mean over all 0 ≤ i < j ≤ T, weights λ^{j−i}, of

        (log F(s_i) + Σ_{i≤k<j} log P_F − log F(s_j) − Σ_{i≤k<j} log P_B)²   (arXiv 2209.12782).

    λ = 0 is the mean of detailed balance, λ = ∞ is trajectory balance. O(N T²) memory.

    :param log_flow: [N, T+1], nats; log F(s_i), first log Z, last log R(x)
    :param log_pf: [N, T], nats; log P_F(s_{i+1}|s_i)
    :param log_pb: [N, T], nats; log P_B(s_i|s_{i+1})
    :param lam: λ ≥ 0
    :param lengths: int64 [N]; transitions of each trajectory, 1…T, if they differ
    :raises ValueError: for λ < 0, and as ``detailed_balance``

    >>> import torch
    >>> log_flow, zero = torch.tensor([[3.0, 2.0, 2.0]]), torch.zeros(1, 2)
    >>> sub_trajectory_balance(log_flow, zero, zero, lam=1.0)  # (3−2)², (2−2)², (3−2)²
    tensor([0.6667])
    """
    if not lam >= 0:
        raise ValueError(f"lam must be ≥ 0, got {lam}")
    log_flow, log_ratio, inside = _trajectories(log_flow, log_pf, log_pb, lengths)
    potential = log_flow - torch.nn.functional.pad(log_ratio.cumsum(1), (1, 0))
    residual = potential[:, :, None] - potential[:, None, :]
    place = torch.arange(log_flow.shape[1], device=log_flow.device)
    span = (place - place[:, None]).to(log_flow.dtype)
    longest = inside.sum(1)[:, None, None] - 1
    # Divided by the largest weight of its trajectory, which can neither overflow nor vanish.
    weight = lam ** (span - 1).clamp(min=0) if lam <= 1 else (1 / lam) ** (longest - span).clamp(min=0)
    weight = weight * (inside[:, None, :] & (span > 0))
    return (weight * residual.square()).sum((1, 2)) / weight.sum((1, 2))


def _trajectories(
    log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """log F [N, T+1], log P_F/P_B [N, T], both 0 beyond the end, and which states there are [N, T+1]."""
    sizes = shapes(log_flow=(log_flow, "N T+1"), log_pf=(log_pf, "N T"), log_pb=(log_pb, "N T"))
    if lengths is None:
        lengths = torch.full((sizes["N"],), sizes["T"], device=log_flow.device)
    shapes(log_flow=(log_flow, "N T+1"), lengths=(lengths, "N"))
    if not lengths.is_cuda and len(lengths) and not (lengths.min() >= 1 and lengths.max() <= sizes["T"]):
        raise ValueError(f"lengths must be in 1…{sizes['T']}, the transitions of each trajectory")
    inside = torch.arange(sizes["T"] + 1, device=log_flow.device) <= lengths[:, None]
    log_flow, log_pf, log_pb = (
        x.masked_fill(~m, 0)
        for x, m in ((log_flow, inside), (log_pf, inside[:, 1:]), (log_pb, inside[:, 1:]))
    )
    finite(log_flow=log_flow, log_pf=log_pf, log_pb=log_pb)
    return log_flow, log_pf - log_pb, inside
