"""A target's whole graph as tables of indices: where it can be listed, everything is exact."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mlegfn.targets import Target

__all__ = ["Enumeration", "mean_deviation"]


class Enumeration:
    """The K states of a ``Target`` and its edges; row 0 is s_0.

    states [K, *shape], level [K], log_reward [K] (−∞ where a state is no object), allowed [K, A], children
    [K, A−1] and parents [K, A−1]: the state by (undoing) an action, −1 where there is none.

    A *node* is a state k or, as K + k, the same after *stop*, where a trajectory stays: moves [2K, A] are the
    nodes' children, −1 where there is none, and uniform [2K, A] the policy that takes each with equal
    probability. Every trajectory is then as long, steps = depth + 1.
    """

    def __init__(self, target: Target) -> None:
        self.states = target.states()
        self.level = target.level(self.states)
        self.allowed = target.allowed(self.states)
        self.children = self._neighbours(target, self.allowed[:, :-1], target.step)
        self.parents = self._neighbours(target, target.undoable(self.states), target.undo)
        reward = target.log_reward(self.states)
        self.log_reward = torch.where(self.allowed[:, -1], reward, -math.inf)
        self.steps = target.depth + 1
        count = len(self.states)
        stay = torch.full((count, target.actions), -1)
        stay[:, -1] = torch.arange(count, 2 * count)
        stop = torch.where(self.allowed[:, -1:], stay[:, -1:], -1)
        self.moves = torch.cat([torch.cat([self.children, stop], 1), stay])
        possible = (self.moves >= 0).double()
        self.uniform = possible / possible.sum(1, keepdim=True)
        self.by_level = [(self.level == level).nonzero()[:, 0] for level in range(target.depth + 1)]

    def _neighbours(
        self, target: Target, possible: Tensor, move: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        table = torch.full(possible.shape, -1)
        row, action = possible.nonzero(as_tuple=True)
        table[row, action] = target.index(move(self.states[row], action))
        return table

    @property
    def log_z(self) -> Tensor:
        """[]: log Σ_x R(x), nats."""
        return self.log_reward.logsumexp(0)

    @property
    def log_prob(self) -> Tensor:
        """[K]: log R(x)/Z."""
        return self.log_reward - self.log_z

    def into(self, table: Tensor) -> Tensor:
        """[K, A−1]: ``table[parent, action]`` [K, A] for each edge into a state, −∞ where there is none."""
        edges = torch.arange(self.parents.shape[1]).expand_as(self.parents)
        return table[self.parents.clamp(min=0), edges].masked_fill(self.parents < 0, -math.inf)

    def terminating(self, log_pf: Tensor) -> Tensor:
        """[K]: log probability of stopping in each state, by dynamic programming from s_0, level by level.

        log_pf [K, A]: log P_F(action | state). Exact, O(K·A), no sampling.
        """
        reach = torch.zeros(len(self.states), dtype=log_pf.dtype)
        into = self.into(log_pf)
        for rows in self.by_level[1:]:
            parts = reach[self.parents[rows].clamp(min=0)] + into[rows]
            reach = reach.index_copy(0, rows, parts.logsumexp(1))
        return reach + log_pf[:, -1]

    def flow(self, log_pb: Tensor) -> tuple[Tensor, Tensor]:
        """(log F [K], log edge flow [K, A]): *the* flow with this backward policy, from the rewards back.

            F(s) = R(s) + Σ_s' F(s → s'),    F(s → s') = F(s') P_B(s|s'),    F(s_0) = Z

        log_pb [K, A−1]: log P_B(undo action | state). By construction it satisfies every balance condition.
        """
        flow = self.log_reward.clone()
        edges = torch.full(self.allowed.shape, -math.inf, dtype=flow.dtype)
        edges[:, -1] = self.log_reward
        action = torch.arange(self.children.shape[1])
        for rows in reversed(self.by_level):
            child = self.children[rows].clamp(min=0)
            out = (flow[child] + log_pb[child, action]).masked_fill(self.children[rows] < 0, -math.inf)
            edges[rows, :-1] = out
            flow[rows] = edges[rows].logsumexp(1)
        return flow, edges

    def around(self, edges: Tensor, log_reward: Tensor) -> tuple[Tensor, Tensor]:
        """Log flow into and out of each node, [2K, A] twice, of log edge flows [K, A] and log R [K].

        Into a stopped one goes the edge *stop* alone, out of it the reward.
        """
        into = F.pad(self.into(edges), (0, 1), value=-math.inf)
        stop, reward = (
            F.pad(x[:, None], (edges.shape[1] - 1, 0), value=-math.inf) for x in (edges[:, -1], log_reward)
        )
        return torch.cat([into, stop]), torch.cat([edges, reward])

    def walk(self, weight: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Nodes [T+1, N] from s_0 on and actions [T, N], drawn with probability ∝ ``weight`` [2K, A]."""
        race = self._race(count, weight.shape[1], generator)
        nodes, actions = [torch.zeros(count, dtype=torch.int64)], []
        for step in range(self.steps):
            actions.append((weight[nodes[-1]] / race[step]).argmax(1))
            nodes.append(self.moves[nodes[-1], actions[-1]])
        return torch.stack(nodes), torch.stack(actions)

    def walk_back(self, weight: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        """States [T+1, N] from x [N] back to s_0, by ``weight`` [K, A−1] over the undone actions.

        x waits as long as its trajectory had been over, then *stop* is undone, and only then it walks.
        """
        race = self._race(len(x), weight.shape[1], generator)
        path, level = [x], self.level[x]
        for step in range(self.steps):
            action = (weight[path[-1]] / race[step]).argmax(1)
            path.append(torch.where(step >= self.steps - level, self.parents[path[-1], action], path[-1]))
        return torch.stack(path)

    def _race(self, count: int, actions: int, generator: torch.Generator) -> Tensor:
        """[T, N, A] exponential: argmax(weight/race) is an action drawn ∝ weight, never one of weight 0."""
        return torch.empty(self.steps, count, actions, dtype=torch.float64).exponential_(generator=generator)

    def every_walk(self) -> tuple[Tensor, Tensor]:
        """All trajectories there are, as ``walk`` gives them: for small graphs."""
        nodes, actions = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(0, 1, dtype=torch.int64)
        for _ in range(self.steps):
            row, action = (self.moves[nodes[-1]] >= 0).nonzero(as_tuple=True)
            nodes = torch.cat([nodes[:, row], self.moves[nodes[-1, row], action][None]])
            actions = torch.cat([actions[:, row], action[None]])
        return nodes, actions

    def sampling_floor(self, count: int) -> float:
        """E Σ_x |p̂(x) − p(x)| of ``count`` exact samples: the L1 that a perfect model shows in as many."""
        return mean_deviation(self.log_prob.exp(), count).sum().item()


def mean_deviation(p: Tensor, count: int) -> Tensor:
    """[K]: E |p̂ − p| of ``count`` exact samples, each of K objects of probability p.

    De Moivre's mean deviation of a binomial, 2 (m+1) C(n, m+1) p^{m+1} (1−p)^{n−m} / n, m = ⌊np⌋.
    """
    m = (count * p).floor().clamp(max=count - 1)
    n = torch.tensor(float(count), dtype=p.dtype)
    choose = (n + 1).lgamma() - (m + 2).lgamma() - (n - m).lgamma()
    deviation = math.log(2) + (m + 1).log() + choose + torch.xlogy(m + 1, p) + torch.xlogy(n - m, 1 - p)
    return deviation.exp() / count
