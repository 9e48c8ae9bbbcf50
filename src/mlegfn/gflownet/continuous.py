"""A GFlowNet on a continuous target, coordinate by coordinate: P_B is 1, and p(x) is P_F of the one way to x."""

from typing import NamedTuple

import torch
from torch import Tensor

from mlegfn.gflownet.losses import Scores
from mlegfn.gflownet.model import Model

__all__ = ["ContinuousGFlowNet", "Points"]


class Points(NamedTuple):
    """objects: [N, D], each with its one trajectory; log_reward float32 [N]; ``on_policy`` as Trajectories'."""

    objects: Tensor
    log_reward: Tensor
    on_policy: bool


class ContinuousGFlowNet(Model):
    """:param policy: with ``sample``, ``log_prob`` and ``log_flow`` (``coordinates.CoordinatePolicy``)
    :param target: with ``log_reward`` [N, D] → [N] and ``box``, (low [D], high [D])
    """

    def __init__(self, policy, target):
        super().__init__(policy)
        self.target = target

    def table(self, count):
        """No states can be listed."""

    @torch.no_grad()
    def rollout(self, count, rng, exploration=0.0, table=None):
        """``count`` points of the policy; each with probability ``exploration`` one of the box instead, uniform."""
        x = self.policy.sample(count, rng)
        if exploration:
            low, high = (side.to(x) for side in self.target.box)
            uniform = low + (high - low) * torch.rand(x.shape, generator=rng, dtype=x.dtype)
            x = torch.where(torch.rand(count, 1, generator=rng) < exploration, uniform, x)
        return self.points(x, exploration == 0)

    def back(self, objects, rng):
        """There is one way back."""
        return self.points(objects)

    def join(self, first, second):
        pairs = zip(first[:2], second[:2], strict=True)
        return Points(*(torch.cat(pair) for pair in pairs), first.on_policy and second.on_policy)

    def points(self, x, on_policy=False):
        """``Points`` of x [N, D]."""
        return Points(x, self.target.log_reward(x).to(x.dtype), on_policy)

    def score(self, trajectories, flows=None, table=None):
        log_pf, reward = self.policy.log_prob(trajectories.objects), trajectories.log_reward
        scores = Scores(log_pf, torch.zeros_like(log_pf), reward, self.log_z)
        if flows is None:
            return scores
        count, coordinates = log_pf.shape
        inner = self.log_z + self.policy.log_flow(trajectories.objects)[:, 1:]
        log_flow = torch.cat([self.log_z.expand(count, 1), inner, scores.log_reward[:, None]], 1)
        return scores._replace(log_flow=log_flow, lengths=torch.full((count,), coordinates))

    def flow_matching(self, trajectories, table=None):
        raise ValueError("flow matching sums over actions, of which a continuous policy has no list")
