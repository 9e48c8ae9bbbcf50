"""Objects seen before, to be walked back from again: for objectives that are valid off-policy."""

from typing import cast

import torch
from torch import Tensor

__all__ = ["Replay"]


class Replay:
    """The last ``capacity`` objects; ``draw`` gives each with equal probability, as often as it was put in."""

    objects: Tensor | None

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a replay buffer holds at least one object, not {capacity}")
        self.capacity, self.objects = capacity, None

    def __len__(self) -> int:
        return 0 if self.objects is None else len(self.objects)

    def add(self, objects: Tensor) -> None:
        """Objects [N, …], as ``Trajectories.objects`` or points."""
        both = objects if self.objects is None else torch.cat([self.objects, objects])
        self.objects = both[-self.capacity :]

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """``count`` objects, with replacement; ValueError from an empty buffer."""
        if not len(self):
            raise ValueError("the replay buffer is empty: add objects first")
        return cast("Tensor", self.objects)[torch.randint(len(self), (count,), generator=rng)]
