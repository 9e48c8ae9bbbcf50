"""Points in the plane in units of their own, and in those of a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Units"]


@dataclass(frozen=True)
class Units:
    """The data's own units and the model's: model = (data − mean)/std, a coordinate at a time."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, points: Tensor) -> Units:
        """Those in which ``points`` [N, 2] have mean 0 and variance 1."""
        return cls(points.mean(0), points.std(0))

    def to_model(self, points: Tensor) -> Tensor:
        return (points - self.mean) / self.std

    def to_data(self, points: Tensor) -> Tensor:
        return points * self.std + self.mean

    @property
    def log_jacobian(self) -> float:
        """log |d model / d data|: a log-density in the data's units is the model's plus this, in nats."""
        return -float(self.std.double().log().sum())
