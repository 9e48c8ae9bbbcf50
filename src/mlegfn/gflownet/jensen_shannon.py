"""How far a density is from a continuous target: the Jensen–Shannon divergence in nats, 0 to log 2.

    JSD(p, q) = ½ KL(p‖m) + ½ KL(q‖m),    m = (p + q)/2

A policy's density is known where P_B is 1, so the JSD is an integral: ``jensen_shannon``, with its error. The
paper (arXiv 2410.09355) gives a JSD of samples, in a way that the text we hold does not say; that of histograms,
``of_samples``, is above 0 even for a perfect model: by ``sampling_floor``, which belongs beside it.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from mlegfn.randomness import generator
from mlegfn.targets.points import PointTarget, as_points

if TYPE_CHECKING:
    from mlegfn.gflownet.coordinates import CoordinatePolicy

__all__ = ["JSD", "bin_probabilities", "jensen_shannon", "of_densities", "of_samples", "sampling_floor"]

Density = Callable[[Sequence[Tensor]], Tensor]  # of axes, D tensors [n_d] → [n_1, …, n_D], its logarithm

PANELS, NODES = 100, 4  # Gauss–Legendre: at least this many panels to a side of the box, nodes in each


class JSD(NamedTuple):
    """value: nats; error: nats, what halving the grid changes and what the box leaves open; outside: the
    probability beyond the box of the first density and of the second."""

    value: float
    error: float
    outside: tuple[float, float]


def jensen_shannon(policy: "CoordinatePolicy", target: PointTarget, cells: int = 400) -> JSD:
    """JSD between ``policy`` (a ``CoordinatePolicy``) and ``target`` by quadrature on cells^D points of its box."""
    with torch.no_grad():
        return of_densities(policy.on_grid, _pointwise(target.log_prob), target.box, cells)


def of_densities(first: Density, second: Density, box: tuple[Tensor, Tensor], cells: int = 400) -> JSD:
    """JSD of two log densities on grids: axes, D tensors [n_d] → [n_1, …, n_D].

    By the midpoint rule in ``box`` (low [D], high [D]). Beyond it the densities are taken for one cell with what
    is missing from 1: that is the least JSD that they can have there, and the most is what they have if disjoint.
    Raises ValueError for an odd or too small number of cells.
    """
    if cells < 2 or cells % 2:
        raise ValueError(
            f"the number of cells is halved to see the error: it must be even and ≥ 2, got {cells}"
        )
    value, gap, outside = _integral(first, second, box, cells)
    halved, *_ = _integral(first, second, box, cells // 2)
    return JSD(value.item(), ((value - halved).abs() + gap).item(), tuple(outside.tolist()))


def of_samples(x: Tensor, target: PointTarget, bins: int = 50) -> float:  # assumed: bins
    """JSD, nats, between the histogram of samples x [N, D], ``bins`` per coordinate in the target's box and one bin
    beyond, and the probabilities of the target in them. Never above the JSD of the densities but for its floor."""
    low, high = target.box
    x = as_points(x, target.dimensions)
    place = ((x - low) / (high - low) * bins).floor().long()
    inside = ((place >= 0) & (place < bins)).all(1)
    powers = bins ** torch.arange(target.dimensions - 1, -1, -1)
    row = torch.where(inside, (place * powers).sum(1), bins**target.dimensions)
    return _of_counts(row, bin_probabilities(target, bins)).item()


def sampling_floor(
    target: PointTarget, count: int, bins: int = 50, repeats: int = 20, seed: int = 0
) -> tuple[float, float]:
    """(mean of ``of_samples`` over ``repeats`` sets of ``count`` exact samples, its standard error), nats.

    A histogram of exact samples is multinomial, so the bins themselves are drawn. Where all of K bins hold many
    it is (K − 1)/(8 N).
    """
    if repeats < 2:
        raise ValueError(f"a standard error needs at least two repeats, got {repeats}")
    probabilities = bin_probabilities(target, bins)
    rng = generator(seed, "jensen-shannon", "floor", count, bins)
    estimates = torch.stack(
        [
            _of_counts(
                torch.multinomial(probabilities, count, replacement=True, generator=rng), probabilities
            )
            for _ in range(repeats)
        ]
    )
    return estimates.mean().item(), (estimates.std() / math.sqrt(repeats)).item()


def bin_probabilities(target: PointTarget, bins: int) -> Tensor:
    """float64 [bins^D + 1]: the target's probability of each bin of its box, and beyond the box.

    By Gauss–Legendre quadrature in panels that are a bin or a part of one.
    """
    if bins < 1:
        raise ValueError(f"a histogram has at least 1 bin, got {bins}")
    low, high = target.box
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(NODES))
    parts = math.ceil(PANELS / bins)
    inside = (torch.arange(bins * parts)[:, None] + (nodes + 1) / 2).flatten() / (bins * parts)
    weights = weights.repeat(parts) / (2 * bins * parts)
    axes = [a + (b - a) * inside for a, b in zip(low, high)]
    mass = _pointwise(target.log_prob)(axes).exp()
    for d in range(target.dimensions):
        mass = mass.unflatten(d, (bins, parts * NODES)).movedim(d + 1, -1) @ weights * (high - low)[d]
    return torch.cat([mass.flatten(), (1 - mass.sum()).clamp(min=0)[None]])


def _integral(
    first: Density, second: Density, box: tuple[Tensor, Tensor], cells: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(JSD, what it leaves open, the mass of either density beyond the box [2]), float64."""
    low, high = box
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    axes = [a + (b - a) * centres for a, b in zip(low, high)]
    volume = ((high - low) / cells).prod()
    log_p, log_q = first(axes).double(), second(axes).double()
    missing = 1 - torch.stack([log.exp().sum() * volume for log in (log_p, log_q)])
    outside = missing.clamp(min=0)
    least, most = _integrand(*outside.log()), math.log(2) / 2 * outside.sum()
    excess = -missing.clamp(max=0).sum()  # more than 1: a peak between the points, or on one
    return _integrand(log_p, log_q).sum() * volume + least, most - least + math.log(2) / 2 * excess, outside


def _integrand(log_p: Tensor, log_q: Tensor) -> Tensor:
    """½ p log(p/m) + ½ q log(q/m), elementwise; 0 log 0 = 0."""
    total = torch.logaddexp(log_p, log_q)
    parts = (
        log.exp() * (log - total + math.log(2)).nan_to_num(nan=0.0, neginf=0.0) for log in (log_p, log_q)
    )
    return cast("Tensor", sum(parts)) / 2


def _of_counts(row: Tensor, probabilities: Tensor) -> Tensor:
    """[]: JSD of the histogram of ``row`` int64 [N] from ``probabilities`` [K]."""
    share = row.bincount(minlength=len(probabilities)).double() / len(row)
    return _integrand(share.log(), probabilities.log()).sum()


def _pointwise(log_prob: Callable[[Tensor], Tensor]) -> Density:
    """[N, D] → [N] made into axes → [n_1, …, n_D], in parts that fit the cache."""

    def on_grid(axes: Sequence[Tensor]) -> Tensor:
        points = torch.cartesian_prod(*axes).view(-1, len(axes))
        return torch.cat([log_prob(part) for part in points.split(2**14)]).view([len(axis) for axis in axes])

    return on_grid
