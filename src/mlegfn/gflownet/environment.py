"""Where rollouts walk: a discrete target as a policy sees it. A *position* is whatever says where a trajectory is."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mlegfn.targets.enumeration import Enumeration

if TYPE_CHECKING:
    from mlegfn.targets import Target
    from mlegfn.targets.sets import Sets

__all__ = ["Environment", "Listed", "Members", "Unlisted"]


class Environment(Protocol):
    """What a rollout needs; what its methods are is said of ``Listed``."""

    actions: int
    depth: int
    dtype: torch.dtype

    @property
    def end(self) -> int | None:
        """The position after *stop*, where there is one: it is ``Listed`` then."""

    @property
    def early(self) -> bool:
        """Whether a trajectory may stop before it has to."""

    def initial(self, count: int) -> Tensor: ...
    def observe(self, positions: Tensor) -> Tensor: ...
    def masked(self, logits: Tensor, positions: Tensor) -> Tensor: ...
    def step(self, positions: Tensor, action: Tensor) -> Tensor: ...
    def undoable(self, positions: Tensor) -> Tensor: ...
    def undo(self, positions: Tensor, action: Tensor) -> Tensor: ...
    def level(self, positions: Tensor) -> Tensor: ...
    def log_pb(self, positions: Tensor) -> Tensor: ...
    def log_reward(self, positions: Tensor) -> Tensor: ...
    def position(self, states: Tensor) -> Tensor: ...


class Listed:
    """All K states are listed, and a position is a row, int64 [N]: each method is one lookup.

    Row K is the end: where a trajectory is after *stop*, and stays, by *stop*. So all of a batch can go on together,
    and none has to be taken out.

    :param target: a :class:`mlegfn.targets.Target`
    :param inputs: ``policy.inputs``, what the network reads of states [K, *shape]
    :param graph: the target's ``Enumeration``, if it is at hand already
    """

    def __init__(
        self, target: "Target", inputs: Callable[[Tensor], Tensor], graph: Enumeration | None = None
    ) -> None:
        self.target = target
        self.graph = graph or Enumeration(target)
        self.actions, self.depth, self.end = target.actions, target.depth, len(self.graph.states)
        self.inputs = inputs(
            torch.cat([self.graph.states, target.initial(1)])
        )  # at the end it reads anything
        self.dtype = self.inputs.dtype
        allowed = F.pad(self.graph.allowed, (0, 0, 0, 1))
        allowed[self.end, -1] = True
        self.barrier = torch.zeros(allowed.shape, dtype=self.inputs.dtype).masked_fill(~allowed, -torch.inf)
        self.moves = F.pad(self.graph.children, (0, 1, 0, 1), value=self.end).flatten()
        self.reward = self.graph.log_reward.to(self.inputs.dtype)
        parents = (self.graph.parents >= 0).sum(1)
        self.backward = F.pad(_uniform(parents, self.inputs.dtype), (0, 1))
        # Whether a trajectory may stop before it has to.
        self.early = bool(self.graph.allowed[self.graph.level < self.depth, -1].any())

    def initial(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.int64)

    def observe(self, positions: Tensor) -> Tensor:
        """What the network reads there, [N, ...]."""
        return self.inputs.index_select(0, positions)

    def masked(self, logits: Tensor, positions: Tensor) -> Tensor:
        """``logits`` [N, A] with those of no action so low that their probability is 0 exactly; in place if it can."""
        return _add(logits, self.barrier.index_select(0, positions))

    def step(self, positions: Tensor, action: Tensor) -> Tensor:
        return self.moves.index_select(0, torch.add(action, positions, alpha=self.actions))

    def undoable(self, positions: Tensor) -> Tensor:
        """bool [N, A−1]: by which actions a parent leads there."""
        return self.graph.parents[positions] >= 0

    def undo(self, positions: Tensor, action: Tensor) -> Tensor:
        return self.graph.parents[positions, action]

    def level(self, positions: Tensor) -> Tensor:
        return self.graph.level[positions]

    def log_pb(self, positions: Tensor) -> Tensor:
        """[N]: log P_B of each of the parents, uniform; 0 at s_0 and at the end. In the dtype of the inputs."""
        return self.backward.index_select(0, positions)

    def log_reward(self, positions: Tensor) -> Tensor:
        """[N], nats, in the same dtype."""
        return self.reward[positions]

    def position(self, states: Tensor) -> Tensor:
        return self.target.index(states)


class Unlisted:
    """The same for a target of too many states: positions are the states themselves, int64 [N, *shape].

    There is no row for the end, so trajectories that have stopped are taken out.
    """

    end = None

    def __init__(self, target: "Target", inputs: Callable[[Tensor], Tensor]) -> None:
        self.target, self.observe = target, inputs
        self.actions, self.depth = target.actions, target.depth
        self.initial, self.step, self.undo = target.initial, target.step, target.undo
        self.undoable, self.level = target.undoable, target.level
        self.dtype = inputs(target.initial(1)).dtype
        # Whether a trajectory may stop before it has to: taken as true unless the target says otherwise.
        self.early: bool = getattr(target, "early", True)

    def masked(self, logits: Tensor, positions: Tensor) -> Tensor:
        return logits.masked_fill(~self.target.allowed(positions), -torch.inf)

    def log_pb(self, positions: Tensor) -> Tensor:
        return _uniform(self.target.undoable(positions).sum(1), self.dtype)

    def log_reward(self, positions: Tensor) -> Tensor:
        return self.target.log_reward(positions).to(self.dtype)

    def position(self, states: Tensor) -> Tensor:
        return states


class Members:
    """Sets of one size, by what they hold: a position is 0 or 1 for each element, and 1 for *stop*, [N, D+1].

    *stop* is never an action: it is all there is once a set is full, and is then forced. As ``Unlisted`` with
    ``targets.sets.Sets``, without its checks, in a tenth of the operations.
    """

    end, early = None, False

    def __init__(self, target: "Sets", dtype: torch.dtype = torch.float32) -> None:
        self.target, self.dtype = target, dtype
        self.actions, self.depth = target.actions, target.depth
        self.values = target.values.to(dtype)
        self.full = _uniform(torch.arange(target.size + 1), dtype)

    def initial(self, count: int) -> Tensor:
        return F.pad(torch.zeros(count, self.target.elements, dtype=self.dtype), (0, 1), value=1.0)

    def observe(self, positions: Tensor) -> Tensor:
        return positions[:, :-1]

    def masked(self, logits: Tensor, positions: Tensor) -> Tensor:
        return _add(logits, positions, FORBIDDEN)

    def step(self, positions: Tensor, action: Tensor) -> Tensor:
        return positions.scatter(1, action[:, None], 1.0)

    def undo(self, positions: Tensor, action: Tensor) -> Tensor:
        return positions.scatter(1, action[:, None], 0.0)

    def undoable(self, positions: Tensor) -> Tensor:
        return positions[:, :-1] > 0

    def level(self, positions: Tensor) -> Tensor:
        return positions[:, :-1].sum(1).long()

    def log_pb(self, positions: Tensor) -> Tensor:
        return self.full[self.level(positions)]

    def log_reward(self, positions: Tensor) -> Tensor:
        return positions[:, :-1] @ self.values

    def position(self, states: Tensor) -> Tensor:
        return F.pad(states.to(self.dtype), (0, 1), value=1.0)


FORBIDDEN = -1e9  # e to it is 0 in float32 and in float64, and 0 times it is 0


def _add(logits: Tensor, barrier: Tensor, alpha: float = 1.0) -> Tensor:
    if torch.is_inference(logits):
        return logits.add_(barrier, alpha=alpha)
    return torch.add(logits, barrier, alpha=alpha)


def _uniform(parents: Tensor, dtype: torch.dtype) -> Tensor:
    """[N]: −log of the number of parents."""
    return -parents.clamp(min=1).to(dtype).log()
