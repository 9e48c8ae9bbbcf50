"""A planar problem in the units that its diffusions are trained in, and what they are scored by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mlegfn.data import planar
from mlegfn.data.planar_density import entropy
from mlegfn.families.shared.family import Fit, Panel
from mlegfn.families.shared.fitting import bounds
from mlegfn.randomness import batch_indices, generator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.family import Family, Settings

__all__ = ["SHOWN", "Problem"]

SHOWN = 2000  # points in a panel


@dataclass(frozen=True)
class Problem:
    """Points [n, 2] of a planar problem, with mean 0 and variance 1 a coordinate in training."""

    name: str
    seed: int
    train: torch.Tensor
    test: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def draw(cls, name: str, settings: Settings, seed: int) -> Self:
        """Training points of ``seed``; the test points are the same for every seed."""
        points = planar.sample(name, settings.train_points, generator(seed, "families", name, "train"))
        test = planar.sample(name, settings.test_points, generator(0, "families", name, "test"))
        mean, std = points.mean(0), points.std(0)
        return cls(name, seed, (points - mean) / std, (test - mean) / std, mean, std)

    def batch(self, step: int, size: int) -> Tensor:
        return self.train[batch_indices(self.seed, self.name, step, size, len(self.train))]

    def nll(self, log_p: Tensor) -> float:
        """Mean NLL in the data's units, nats, from log-densities [N] of ``test`` in the model's."""
        return (self.std.double().log().sum() - log_p.double().mean()).item()

    def fit(self, model: Family, settings: Settings, more: Mapping[str, float] | None = None) -> Fit:
        """The ``Fit`` of a trained pair: both bounds beside the entropy, data and samples.

        more: {what: further NLL}, nats.
        """
        draws = generator(0, "families", self.name, "bounds")  # equal noise for every seed
        elbo, weighted = bounds(model, self.test, settings.trajectories, draws, batch=1024)
        samples = model.sample_pf((SHOWN, 2), generator(self.seed, "families", self.name, "sample"))[0]
        fresh = planar.sample(self.name, SHOWN, generator(0, "families", self.name, "shown"))
        return Fit(
            model,
            {
                f"test NLL, nats (importance-weighted, K = {settings.trajectories})": self.nll(weighted),
                "test −ELBO, nats": self.nll(elbo),
                **(more or {}),
                "entropy of the data, nats": entropy(self.name),
            },
            [
                Panel(f"data: {self.name}", "points", fresh),
                Panel("samples", "points", samples * self.std + self.mean),
            ],
        )
