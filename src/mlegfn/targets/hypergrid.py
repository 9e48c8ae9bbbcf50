"""The hypergrid of Bengio et al. 2021 (arXiv 2106.04399): high rewards near the corners, low between."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mlegfn.targets.checks import listable

__all__ = ["Hypergrid"]


class Hypergrid:
    """Cells x ∈ {0…H−1}^d, from the origin by "increment coordinate i", i < d, or "stop" (action d), with

        R(x) = R0 + R1 Π_i [1/2 < |u_i|] + R2 Π_i [3/5 < |u_i| < 4/5],    u_i = 2 x_i/(H−1) − 1.

    R1 = 1/2, R2 = 2 and R0 = 0.1, 0.01 or 0.001: the smaller, the harder to leave a mode. u_i is symmetric, as in
    torchgfn and gfnx. Where a cell lies on a bound, as 3 and 12 of 16 do, float64 would take the one and leave
    the other; bounds are compared in integers, and neither is a mode.
    """

    shape: tuple[int, ...]

    def __init__(self, dimensions: int, side: int, r0: float = 0.1, r1: float = 0.5, r2: float = 2.0) -> None:
        if dimensions < 1 or side < 2:
            raise ValueError(f"a hypergrid has dimensions ≥ 1 and side ≥ 2, not {dimensions} and {side}")
        if not (0 < r0 < math.inf and 0 <= r1 < math.inf and 0 <= r2 < math.inf):
            raise ValueError(f"the rewards must be finite, R0 > 0 and R1, R2 ≥ 0, not {r0}, {r1}, {r2}")
        self.dimensions, self.side, self.rewards = dimensions, side, (r0, r1, r2)
        self.shape, self.actions, self.depth = (dimensions,), dimensions + 1, dimensions * (side - 1)

    def initial(self, count: int) -> Tensor:
        return torch.zeros(count, self.dimensions, dtype=torch.int64)

    def level(self, states: Tensor) -> Tensor:
        return states.sum(1)

    def allowed(self, states: Tensor) -> Tensor:
        return F.pad(states < self.side - 1, (0, 1), value=True)

    def step(self, states: Tensor, action: Tensor) -> Tensor:
        return states + self._unit(action, self.allowed(states), "leaves the grid")

    def undoable(self, states: Tensor) -> Tensor:
        return states > 0

    def undo(self, states: Tensor, action: Tensor) -> Tensor:
        return states - self._unit(action, self.undoable(states), "did not lead here")

    def _unit(self, action: Tensor, possible: Tensor, problem: str) -> Tensor:
        if (action >= self.dimensions).any() or not possible.gather(1, action[:, None]).all():
            raise ValueError(f"an action {problem}, or is no increment")
        return F.one_hot(action, self.dimensions)

    def log_reward(self, x: Tensor) -> Tensor:
        self._check(x)
        r0, r1, r2 = self.rewards
        outer, mode = (inside.all(1).double() for inside in self._inside(x))
        return (r0 + r1 * outer + r2 * mode).log()

    def _inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of each coordinate: whether |u| > 1/2, and whether 3/5 < |u| < 4/5."""
        last = self.side - 1
        distance = (2 * x - last).abs()  # |u| · (H−1)
        return 2 * distance > last, (5 * distance > 3 * last) & (5 * distance < 4 * last)

    @property
    def log_z(self) -> Tensor:
        """[]: log (R0 H^d + R1 a^d + R2 b^d), nats; a and b of H coordinates are inside the products' bounds."""
        count = torch.stack([inside.sum() for inside in self._inside(torch.arange(self.side))]).double()
        sides = torch.cat([count.new_tensor([self.side]), count])
        return (count.new_tensor(self.rewards).log() + self.dimensions * sides.log()).logsumexp(0)

    def features(self, states: Tensor) -> Tensor:
        """One-hot coordinates, [N, d·H]."""
        return F.one_hot(states, self.side).flatten(1).double()

    def states(self) -> Tensor:
        listable(self.side**self.dimensions, "cells")
        axis = torch.arange(self.side)
        return torch.cartesian_prod(*[axis] * self.dimensions).view(-1, self.dimensions)

    def index(self, states: Tensor) -> Tensor:
        self._check(states)
        place = self.side ** torch.arange(self.dimensions - 1, -1, -1, device=states.device)
        return (states * place).sum(1)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] != self.dimensions or x.is_floating_point():
            raise ValueError(f"cells are int64 [N, {self.dimensions}], not {x.dtype} {tuple(x.shape)}")
        if len(x) and not (x.min() >= 0 and x.max() < self.side):
            raise ValueError(f"a cell lies outside of 0…{self.side - 1}")
