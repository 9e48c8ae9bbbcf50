"""A GFlowNet on a continuous target, coordinate by coordinate: P_B is 1, and p(x) is P_F of the one way to x."""

from typing import TYPE_CHECKING, NamedTuple, NoReturn

import torch
from torch import Tensor

from mlegfn.gflownet.losses import Scores
from mlegfn.gflownet.model import Model, Table

if TYPE_CHECKING:
    from mlegfn.gflownet.coordinates import CoordinatePolicy
    from mlegfn.targets.points import BoxedReward

__all__ = ["ContinuousGFlowNet", "Points"]


class Points(NamedTuple):
    """objects: [N, D], each with its one trajectory; log_reward float32 [N]; ``on_policy`` as Trajectories'."""

    objects: Tensor
    log_reward: Tensor
    on_policy: bool


class ContinuousGFlowNet(Model[Points]):
    """:param policy: with ``sample``, ``log_prob`` and ``log_flow`` (``coordinates.CoordinatePolicy``)
    :param target: with ``log_reward`` [N, D] → [N] and ``box``, (low [D], high [D])
    """

    policy: "CoordinatePolicy"

    def __init__(self, policy: "CoordinatePolicy", target: "BoxedReward") -> None:
        super().__init__(policy)
        self.target = target

    def table(self, count: int) -> None:
        """No states can be listed."""

    @torch.no_grad()
    def rollout(
        self, count: int, rng: torch.Generator, exploration: float = 0.0, table: Table | None = None
    ) -> Points:
        """``count`` points of the policy; each with probability ``exploration`` one of the box instead, uniform."""
        x = self.policy.sample(count, rng)
        if exploration:
            low, high = (side.to(x) for side in self.target.box)
            uniform = low + (high - low) * torch.rand(x.shape, generator=rng, dtype=x.dtype)
            x = torch.where(torch.rand(count, 1, generator=rng) < exploration, uniform, x)
        return self.points(x, exploration == 0)

    def back(self, objects: Tensor, rng: torch.Generator) -> Points:
        """There is one way back."""
        return self.points(objects)

    def join(self, first: Points, second: Points) -> Points:
        pairs = zip(first[:2], second[:2], strict=True)
        objects, log_reward = (torch.cat(pair) for pair in pairs)
        return Points(objects, log_reward, first.on_policy and second.on_policy)

    def points(self, x: Tensor, on_policy: bool = False) -> Points:
        """``Points`` of x [N, D]."""
        return Points(x, self.target.log_reward(x).to(x.dtype), on_policy)

    def score(self, trajectories: Points, flows: str | None = None, table: Table | None = None) -> Scores:
        log_pf, reward = self.policy.log_prob(trajectories.objects), trajectories.log_reward
        scores = Scores(log_pf, torch.zeros_like(log_pf), reward, self.log_offset)
        if flows is None:
            return scores
        count, coordinates = log_pf.shape
        inner = self.log_offset + self.policy.log_flow(trajectories.objects)[:, 1:]
        log_flow = torch.cat([self.log_offset.expand(count, 1), inner, scores.log_reward[:, None]], 1)
        return scores._replace(log_flow=log_flow, lengths=torch.full((count,), coordinates))

    def flow_matching(self, trajectories: Points, table: Table | None = None) -> NoReturn:
        raise ValueError("flow matching sums over actions, of which a continuous policy has no list")

    def log_outflow(self) -> NoReturn:
        raise ValueError("flow matching sums over actions, of which a continuous policy has no list")
