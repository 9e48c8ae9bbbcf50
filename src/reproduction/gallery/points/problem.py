"""A planar problem in the units that its models are trained in."""

from dataclasses import dataclass

import torch

from mlegfn.data import planar
from mlegfn.randomness import generator

__all__ = ["Problem"]

UNITS = 20000  # points from which mean and spread are taken


@dataclass(frozen=True)
class Problem:
    """Points of a planar problem, in units in which each coordinate has mean 0 and variance 1.

    mean, std [2]: of points that no seed changes, so that all seeds have the same units. Draws are made anew, not
    taken from a finite set: nothing can be learned by heart, and test points differ from training points by their key.
    """

    name: str
    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def named(cls, name):
        """``ValueError`` for a name that ``data.planar`` does not know."""
        points = planar.sample(name, UNITS, generator(0, "gallery", "units", name))
        return cls(name, points.mean(0), points.std(0))

    def draw(self, count, seed, *key):
        """[count, 2] float32 in the model's units, a function of (seed, *key)."""
        points = planar.sample(self.name, count, generator(seed, "gallery", self.name, *key))
        return (points - self.mean) / self.std

    def to_data(self, points):
        """Back to the units of ``data.planar``."""
        return points * self.std + self.mean

    @property
    def log_jacobian(self):
        """log |d model / d data|: a log-density in the data's units is the model's plus this, nats."""
        return -self.std.double().log().sum().item()
