"""Unnormalised targets R(x) over objects that are built step by step: what GFlowNets proper are trained on.

A target is the graph, and the reward of the objects on it; it knows nothing of policies. A new one is a file
here with a class that has what :class:`Target` says. All states are int64 tensors, all methods take batches,
and the *stop* action is always the last.
"""

from typing import Protocol

from torch import Tensor

__all__ = ["Target"]


class Target(Protocol):
    """Objects x with reward R(x) > 0, reached from one initial state s_0 by actions 0…A−1, the last one
    *stop*.

    Every state is reached from s_0 by a number of actions that is its own, its ``level``: the graph is
    graded. The object of a state is the state itself, after *stop*; where a state is no object yet, *stop* is
    not allowed.

    shape:   of one state, without the batch
    actions: A, with *stop*
    depth:   the largest level; a trajectory has at most depth + 1 steps, the last one *stop*
    """

    shape: tuple[int, ...]
    actions: int
    depth: int

    def initial(self, count: int) -> Tensor:
        """[N, *shape]: s_0, ``count`` times."""

    def level(self, states: Tensor) -> Tensor:
        """int64 [N]: how many steps from s_0."""

    def allowed(self, states: Tensor) -> Tensor:
        """bool [N, A]: which actions there are."""

    def step(self, states: Tensor, action: Tensor) -> Tensor:
        """[N, *shape]: the child by an allowed action [N] other than *stop*."""

    def undoable(self, states: Tensor) -> Tensor:
        """bool [N, A−1]: by which actions a parent led here. None at s_0."""

    def undo(self, states: Tensor, action: Tensor) -> Tensor:
        """[N, *shape]: the parent that led here by an undoable action [N]."""

    def log_reward(self, x: Tensor) -> Tensor:
        """float64 [N]: log R(x), nats; of a state that is no object any finite number."""

    def features(self, states: Tensor) -> Tensor:
        """float64 [N, F]: what a network reads of a state."""

    def states(self) -> Tensor:
        """[K, *shape]: every state, s_0 first; ValueError where they are too many to be listed."""

    def index(self, states: Tensor) -> Tensor:
        """int64 [N]: the row of ``states()`` that each state is; ValueError where there are none."""

    @property
    def log_z(self) -> Tensor:
        """float64 []: log Z = log Σ_x R(x), nats, exact; by a formula where there is one, without listing."""
