"""Numbers that say how far two computations of the same thing are apart: what ``checks`` are made of."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["gradient", "largest", "relative", "slope"]


def gradient(value: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """[P]: d value / d ``parameters``, joined; 0 where the value does not depend on one. The graph is kept."""
    parts = torch.autograd.grad(
        value, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([part.flatten() for part in parts])


def relative(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ / ‖b‖. NaN, which no tolerance admits, where b = 0."""
    ratio: float = ((a - b).norm() / b.norm()).item()
    return ratio


def largest(a: Tensor, b: Tensor) -> float:
    """max |a − b|."""
    return (a - b).abs().max().item()


def slope(points: Tensor | Sequence[tuple[float, float]]) -> float:
    """Of log y against log x by least squares; ``points`` are k pairs (x, y) of positive numbers."""
    x, y = torch.as_tensor(points, dtype=torch.float64).log().T
    ratio: float = ((x - x.mean()) * (y - y.mean())).sum().item() / (x - x.mean()).square().sum().item()
    return ratio
