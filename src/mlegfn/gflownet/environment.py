"""Where rollouts walk: a discrete target as a policy sees it, by rows of its list of states or by states as such."""

from functools import cached_property

import torch

from mlegfn.targets.enumeration import Enumeration

__all__ = ["Listed", "Unlisted"]


class Listed:
    """All K states are listed, and a *position* is a row, int64 [N]: each method is one lookup.

    :param target: a :class:`mlegfn.targets.Target`
    :param inputs: ``policy.inputs``, what the network reads of states [K, *shape]
    :param graph: the target's ``Enumeration``, if it is at hand already
    """

    def __init__(self, target, inputs, graph=None):
        self.target = target
        self.graph = graph or Enumeration(target)
        self.actions, self.depth = target.actions, target.depth
        self.inputs = inputs(self.graph.states)
        self.impossible = ~self.graph.allowed
        self.children = self.graph.children.flatten()
        self.reward = self.graph.log_reward.to(self.inputs.dtype)
        self.backward = _uniform((self.graph.parents >= 0).sum(1), self.inputs.dtype)
        # Whether a trajectory may stop before it has to.
        self.early = bool(self.graph.allowed[self.graph.level < self.depth, -1].any())

    def initial(self, count):
        return torch.zeros(count, dtype=torch.int64)

    def observe(self, positions):
        """What the network reads there, [N, ...]."""
        return self.inputs.index_select(0, positions)

    def forbidden(self, positions):
        """bool [N, A]: which actions there are not."""
        return self.impossible.index_select(0, positions)

    def step(self, positions, action):
        return self.children.index_select(0, positions * (self.actions - 1) + action)

    def undoable(self, positions):
        """bool [N, A−1]: by which actions a parent leads there."""
        return self.graph.parents[positions] >= 0

    def undo(self, positions, action):
        return self.graph.parents[positions, action]

    def level(self, positions):
        return self.graph.level[positions]

    def log_pb(self, positions):
        """[N]: log P_B of each of the parents, uniform; 0 at s_0. In the dtype of the network's inputs."""
        return self.backward.index_select(0, positions)

    def log_reward(self, positions):
        """[N], nats, in the same dtype."""
        return self.reward[positions]

    def position(self, states):
        return self.target.index(states)


class Unlisted:
    """The same for a target of too many states: positions are the states themselves, int64 [N, *shape]."""

    def __init__(self, target, inputs):
        self.target, self.observe = target, inputs
        self.actions, self.depth = target.actions, target.depth
        self.initial, self.step, self.undo = target.initial, target.step, target.undo
        self.undoable, self.level = target.undoable, target.level
        self.dtype = inputs(target.initial(1)).dtype

    @cached_property
    def early(self):
        """Whether a trajectory may stop before it has to: taken as true unless the target says otherwise."""
        return getattr(self.target, "early", True)

    def forbidden(self, positions):
        return ~self.target.allowed(positions)

    def log_pb(self, positions):
        return _uniform(self.target.undoable(positions).sum(1), self.dtype)

    def log_reward(self, positions):
        return self.target.log_reward(positions).to(self.dtype)

    def position(self, states):
        return states


def _uniform(parents, dtype):
    """[N]: −log of the number of parents."""
    return -parents.clamp(min=1).to(dtype).log()
