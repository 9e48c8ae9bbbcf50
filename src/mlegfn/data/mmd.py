"""Maximum mean discrepancy: how far apart two samples are, without any density.

A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf, A. Smola, *A Kernel Two-Sample Test*, JMLR 13 (2012).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["BANDWIDTHS", "mmd2_unbiased", "mmd_floor"]

# A mixture of widths, so that no scale of the planar problems (0.1 to 4) is missed.
BANDWIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)
ROWS = 64  # at once: what each exponential reads is then still in the processor's cache


def mmd2_unbiased(x: Tensor, y: Tensor, bandwidths: Sequence[float] = BANDWIDTHS) -> float:
    """Unbiased estimate of MMD² between the laws of x [n, d] and y [m, d] (their eq. 3), a float:

    1/(n(n−1)) Σ_{i≠j} k(x_i, x_j) + 1/(m(m−1)) Σ_{i≠j} k(y_i, y_j) − 2/(nm) Σ_{i,j} k(x_i, y_j)

    with the mixture kernel k(a, b) = mean over σ of exp(−|a − b|²/(2σ²)). It is zero on average where the
    laws are equal, so half of such estimates are negative.

    :param bandwidths: the σ's, in the units of x
    :raises ValueError: for fewer than two points, other dimensions, or values that are not finite
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"samples must be [n, d] and [m, d], not {list(x.shape)} and {list(y.shape)}")
    if min(len(x), len(y)) < 2:
        raise ValueError("the unbiased estimate needs at least two points of each sample")
    if not bandwidths or min(bandwidths) <= 0:
        raise ValueError(f"bandwidths must be positive, not {bandwidths}")
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("samples must be finite")
    centre = torch.cat([x, y]).double().mean(0)
    x, y = x.double() - centre, y.double() - centre
    n, m = len(x), len(y)
    # k(a, a) = 1, so the diagonals of the first two sums are n and m.
    within = sum((_within_sum(points, bandwidths) - k) / (k * (k - 1)) for points, k in ((x, n), (y, m)))
    return within - 2 * _kernel_sum(x, y, bandwidths) / (n * m)


def _within_sum(x: Tensor, bandwidths: Sequence[float]) -> float:
    """Σ_{i,j} k(x_i, x_j), with each pair computed once."""
    total = 0.0
    for start in range(0, len(x), ROWS):
        part, rest = x[start : start + ROWS], x[start + ROWS :]
        total += _kernel_sum(part, part, bandwidths) + 2 * _kernel_sum(part, rest, bandwidths)
    return total


def _kernel_sum(a: Tensor, b: Tensor, bandwidths: Sequence[float]) -> float:
    """Σ_{i,j} k(a_i, b_j); distances in float64, exponentials in float32, sums of rows in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for part in a.split(ROWS):
        distance = torch.addmm(b.square().sum(1), part, b.T, alpha=-2).add_(part.square().sum(1)[:, None])
        distance = distance.float().clamp_(min=0)
        kernel = torch.empty_like(distance)
        for sigma in bandwidths:
            # Below e^-80 a float32 is subnormal or nearly, which is zero here and five times slower.
            torch.mul(distance, -0.5 / sigma**2, out=kernel).clamp_(min=-80)
            total += kernel.exp_().sum(1).sum(dtype=torch.float64)
    return total.item() / len(bandwidths)


def mmd_floor(
    sampler: Callable[[int, int], Tensor], n: int, repeats: int, bandwidths: Sequence[float] = BANDWIDTHS
) -> dict[str, float]:
    """What MMD² is between data and data: the floor that no model's samples can be told from.

    :param sampler: ``sampler(n, k)`` gives [n, d], independent for each k = 0 … 2·repeats − 1
    :returns: ``{"mean", "standard_deviation", "quantile_95"}`` of ``repeats`` estimates, each of n against n
    """
    if repeats < 2:
        raise ValueError("a floor needs at least two repeats")
    values = torch.tensor(
        [mmd2_unbiased(sampler(n, 2 * k), sampler(n, 2 * k + 1), bandwidths) for k in range(repeats)],
        dtype=torch.float64,
    )
    return {
        "mean": values.mean().item(),
        "standard_deviation": values.std().item(),
        "quantile_95": values.quantile(0.95).item(),
    }
