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
    """[N, P], [N, C] → [N]: (log Σ inflow − log Σ outflow)² of N states (arXiv 2106.04399).

    Log edge flows from the parents and to the children, −∞ where there is none. The reward belongs to the
    outflow: an object's is log R(x) alone, a state that is an object too has it as one child more. Not for
    s_0.
    """
    shapes(log_inflow=(log_inflow, "N P"), log_outflow=(log_outflow, "N C"))
    inflow, outflow = log_inflow.logsumexp(1), log_outflow.logsumexp(1)
    finite(log_inflow=inflow, log_outflow=outflow)  # nor are they where a state has no parent or no child
    return (inflow - outflow).square()


def detailed_balance(
    log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, lengths: Tensor | None = None
) -> Tensor:
    """[N, T+1], [N, T], [N, T] → [N, T]: (log F(s)P_F(s'|s) − log F(s')P_B(s|s'))², arXiv 2111.09266."""
    log_flow, log_ratio, inside = _trajectories(log_flow, log_pf, log_pb, lengths)
    return ((log_flow[:, :-1] - log_flow[:, 1:] + log_ratio) * inside[:, 1:]).square()


def trajectory_balance(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, log_z: Tensor) -> Tensor:
    """[N], [N], [N], [] → [N]: (log Z + Σ log P_F − log R(x) − Σ log P_B)² (arXiv 2201.13259)."""
    shapes(log_pf=(log_pf, "N"), log_pb=(log_pb, "N"), log_reward=(log_reward, "N"), log_z=(log_z, ""))
    finite(log_pf=log_pf, log_pb=log_pb, log_reward=log_reward, log_z=log_z)
    return (log_z + log_pf - log_reward - log_pb).square()


def log_variance(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor) -> Tensor:
    """[N], [N], [N] → [N]: trajectory balance with log Z where it is best for this batch; none is learned.

    Squared deviations of log P_F − log R − log P_B from their mean (VarGrad, arXiv 2010.10436). The batch may
    hold trajectories of *different* x, which R tells apart. For trajectories of one x, R cancels and the sum
    over N − 1 is ``consistency.consistency``, which needs no reward: that is for models trained on data.
    """
    if log_pf.shape[:1] == (1,):
        raise ValueError("a variance needs at least two trajectories")
    return trajectory_balance(log_pf, log_pb, log_reward, -(log_pf - log_pb - log_reward).mean())


def sub_trajectory_balance(
    log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, lam: float, lengths: Tensor | None = None
) -> Tensor:
    """[N, T+1], [N, T], [N, T] → [N]: mean over all 0 ≤ i < j ≤ T, with weights λ^{j−i}, of

        (log F(s_i) + Σ_{i≤k<j} log P_F − log F(s_j) − Σ_{i≤k<j} log P_B)²   (arXiv 2209.12782).

    λ = 0 is the mean of detailed balance, λ = ∞ is trajectory balance. O(N T²) memory.
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
