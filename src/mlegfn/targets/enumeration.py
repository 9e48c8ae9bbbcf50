"""A target's whole graph as tables of indices: where it can be listed, everything is exact."""

import math

import torch

__all__ = ["Enumeration"]


class Enumeration:
    """The K states of a ``Target`` and its edges; row 0 is s_0.

    states [K, *shape], level [K], log_reward [K] (−∞ where a state is no object),
    allowed [K, A], children [K, A−1] and parents [K, A−1]: the state by (undoing) an action, −1 where there is none.
    """

    def __init__(self, target):
        self.states = target.states()
        self.level = target.level(self.states)
        self.allowed = target.allowed(self.states)
        self.children = self._neighbours(target, self.allowed[:, :-1], target.step)
        self.parents = self._neighbours(target, target.undoable(self.states), target.undo)
        reward = target.log_reward(self.states)
        self.log_reward = torch.where(self.allowed[:, -1], reward, -math.inf)
        self.by_level = [(self.level == level).nonzero()[:, 0] for level in range(target.depth + 1)]

    def _neighbours(self, target, possible, move):
        table = torch.full(possible.shape, -1)
        row, action = possible.nonzero(as_tuple=True)
        table[row, action] = target.index(move(self.states[row], action))
        return table

    @property
    def log_z(self):
        """[]: log Σ_x R(x), nats."""
        return self.log_reward.logsumexp(0)

    @property
    def log_prob(self):
        """[K]: log R(x)/Z."""
        return self.log_reward - self.log_z

    def into(self, table):
        """[K, A−1]: ``table[parent, action]`` [K, A] for each edge into a state, −∞ where there is none."""
        edges = torch.arange(self.parents.shape[1]).expand_as(self.parents)
        return table[self.parents.clamp(min=0), edges].masked_fill(self.parents < 0, -math.inf)

    def terminating(self, log_pf):
        """[K]: log probability of stopping in each state, by dynamic programming from s_0, level by level.

        log_pf [K, A]: log P_F(action | state). Exact, O(K·A), no sampling.
        """
        reach = torch.zeros(len(self.states), dtype=log_pf.dtype)
        into = self.into(log_pf)
        for rows in self.by_level[1:]:
            parts = reach[self.parents[rows].clamp(min=0)] + into[rows]
            reach = reach.index_copy(0, rows, parts.logsumexp(1))
        return reach + log_pf[:, -1]

    def flow(self, log_pb):
        """(log F [K], log edge flow [K, A]): *the* flow with this backward policy, from the rewards downwards.

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

    def sampling_floor(self, count):
        """E Σ_x |p̂(x) − p(x)| of ``count`` exact samples: the L1 that a perfect model shows in as many.

        De Moivre's mean absolute deviation of a binomial, 2 (m+1) C(n, m+1) p^{m+1} (1−p)^{n−m} / n, m = ⌊np⌋.
        """
        p = self.log_prob.exp()
        m = (count * p).floor().clamp(max=count - 1)
        n = torch.tensor(float(count), dtype=p.dtype)
        choose = (n + 1).lgamma() - (m + 2).lgamma() - (n - m).lgamma()
        deviation = math.log(2) + (m + 1).log() + choose + torch.xlogy(m + 1, p) + torch.xlogy(n - m, 1 - p)
        return (deviation.exp() / count).sum().item()
