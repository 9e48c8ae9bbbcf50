"""How far a policy's objects are from R(x)/Z: exactly where states are listed, and as samples would show it."""

import math
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from mlegfn.gflownet.environment import Members
from mlegfn.randomness import generator

if TYPE_CHECKING:
    from mlegfn.gflownet.environment import Listed
    from mlegfn.gflownet.model import GFlowNet
    from mlegfn.gflownet.policies import Policy
    from mlegfn.targets.sets import Sets

__all__ = ["Subsets", "distance", "log_terminating", "sampled_distance"]

CHUNK = 8_192  # states that a network is evaluated on at once: their activations stay in the cache


@torch.no_grad()
def log_terminating(model: "GFlowNet") -> Tensor:
    """float64 [K]: log p_θ(x) of each listed state, by dynamic programming from s_0; −∞ where it is no object."""
    environment = cast("Listed", model.environment)
    rows = torch.arange(environment.end).split(CHUNK)
    return environment.graph.terminating(torch.cat([_log_pf(model, part) for part in rows]))


def _log_pf(model: "GFlowNet", positions: Tensor) -> Tensor:
    """float64 [N, A]: log P_F(action | state)."""
    logits, _ = model.policy(model.environment.observe(positions))
    return model.environment.masked(logits.double(), positions).log_softmax(1)


def distance(log_p: Tensor, log_target: Tensor) -> float:
    """L1, Σ_x |p(x) − R(x)/Z|, of log-probabilities [K]: in 0…2, no unit."""
    return (log_p.exp() - log_target.exp()).abs().sum().item()


def sampled_distance(log_p: Tensor, log_target: Tensor, count: int, rng: torch.Generator) -> float:
    """The same of the frequencies of ``count`` samples of p: the metric by Monte Carlo.

    Their counts are multinomial, so they are drawn at once; a numpy generator is seeded from ``rng``.
    """
    numbers = np.random.default_rng(cast("int", torch.randint(2**62, (), generator=rng).item()))
    p = log_p.exp().numpy()
    frequency = torch.from_numpy(numbers.multinomial(count, p / p.sum()) / count)
    return (frequency - log_target.exp()).abs().sum().item()


class Subsets:
    """Σ_x |p_θ(x) − p(x)| = 2 E_{x∼p} max(0, 1 − p_θ(x)/p(x)) of ``targets.sets.Sets`` too large to list.

    Both distributions sum to one, so what p_θ has too much it has too little elsewhere, and one half of the sum is
    enough: the one that is bounded. x are ``points`` exact samples of the target, the same for every policy; p_θ(x) is exact, a sum over all N! orders
    by dynamic programming over the 2^N subsets of x.
    """

    def __init__(self, target: "Sets", points: int, seed: int = 0) -> None:
        self.target = target
        self.x = target.sample(points, generator(seed, "sets", "evaluation"))
        self.log_target = target.log_reward(self.x) - target.log_z
        size = target.size
        members = torch.arange(2**size)[:, None] >> torch.arange(size) & 1
        self.members = members.bool()
        self.levels = [(members.sum(1) == level).nonzero()[:, 0] for level in range(1, size + 1)]

    @torch.no_grad()
    def log_prob(self, policy: "Policy") -> Tensor:
        """float64 [points]: log p_θ(x)."""
        return torch.stack([self._one(policy, x) for x in self.x])

    def _one(self, policy: "Policy", x: Tensor) -> Tensor:
        elements, environment = x.nonzero()[:, 0], Members(self.target, next(policy.parameters()).dtype)
        states = environment.initial(len(self.members))
        states[:, elements] = self.members.to(states)
        steps = []
        for part in states[:-1].split(CHUNK):  # all but x itself, where only *stop* is left
            logits, _ = policy(environment.observe(part))
            normal = environment.masked(logits, part).logsumexp(1, keepdim=True)
            steps.append((logits[:, elements] - normal).double())
        log_pf = torch.cat(steps)
        reach = torch.full((len(states),), -math.inf, dtype=torch.float64)
        reach[0] = 0.0
        for rows in self.levels:
            inside = self.members[rows]
            before = rows[:, None] - (1 << torch.arange(len(elements)))  # the set without that element
            parts = reach[before.clamp(min=0)] + log_pf[before.clamp(min=0), torch.arange(len(elements))]
            reach[rows] = parts.masked_fill(~inside, -math.inf).logsumexp(1)
        return reach[-1]

    def distance(self, policy: "Policy") -> tuple[float, float]:
        """(the estimate of L1, its standard error)."""
        short = 2 * (1 - (self.log_prob(policy) - self.log_target).exp()).clamp(min=0)
        return short.mean().item(), (short.std() / math.sqrt(len(short))).item()
