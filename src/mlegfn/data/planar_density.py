"""What the planar problems' densities are, and so the NLL that no model can beat.

Each density is a mixture over a curve or a few centres, smeared by Gaussian (and for 2spirals uniform)
noise, so log p needs at most a one-dimensional integral over the curve. It is done by Gauss–Legendre
quadrature with nodes closer than the noise is wide, in float64. pinwheel is a Gaussian under a change of
variables, which is inverted numerically. The entropies are right to 1e-6 nats or better.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from mlegfn.data import planar

__all__ = ["DENSITIES", "entropy", "log_density"]

NODES = 400


def log_density(problem: str, x: Tensor) -> Tensor:
    """[N] log p(x) in nats at the points x [N, 2], float64."""
    if problem not in planar.SAMPLERS:
        raise ValueError(f"unknown planar problem {problem!r}; there are {', '.join(planar.SAMPLERS)}")
    return torch.cat([DENSITIES[problem](part) for part in x.double().split(64)])


@functools.cache
def entropy(problem: str) -> float:
    """H = −E[log p] in nats, the NLL of the data's own density.

    checkerboard is uniform: log of its area. Else −∫ p log p by the trapezoidal rule over a square that
    holds all but 1e-10 of the mass; for smooth densities that rule converges exponentially.
    """
    if problem == "checkerboard":
        return math.log(8 * planar.CHECKERBOARD_SIDE**2)
    step, side = 0.08, 5.6
    axis = torch.arange(-side, side + step / 2, step, dtype=torch.float64)
    density = log_density(problem, torch.cartesian_prod(axis, axis)).exp()
    value: float = -(torch.special.xlogy(density, density).sum() * step**2).item()
    return value


@functools.cache
def _gauss_legendre(low: float, high: float) -> tuple[Tensor, Tensor]:
    """[NODES] nodes and log weights of ∫ over (low, high), normalised to an average."""
    nodes, weights = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(NODES))
    return low + (high - low) * (nodes + 1) / 2, (weights / 2).log()


def _logsumexp(terms: Tensor) -> Tensor:
    """log Σ_k e^{terms[:, k]}, [N]. Terms e^-60 below the largest are raised to that: subnormals are slow."""
    largest = terms.amax(1, keepdim=True)
    return (terms - largest).clamp_(min=-60).exp_().sum(1).log_() + largest[:, 0]


def _smeared(x: Tensor, centres: Tensor, log_weights: Tensor, std: float) -> Tensor:
    """log Σ_k w_k N(x; centre_k, std²·I), [N]."""
    distance = (x[:, :1] - centres[:, 0]).square() + (x[:, 1:] - centres[:, 1]).square()
    return _logsumexp(log_weights - distance / (2 * std**2)) - math.log(2 * math.pi * std**2)


def _gaussians(x: Tensor) -> Tensor:
    return _smeared(
        x, planar.gaussians_centres(), torch.full((8,), -math.log(8.0), dtype=x.dtype), planar.GAUSSIANS_STD
    )


def _circles(x: Tensor) -> Tensor:
    """A circle of radius R smeared by σ: p(x) = e^{−(r−R)²/2σ²} i0e(rR/σ²) / 2πσ², with r = |x|."""
    r, variance = x.norm(dim=1), planar.CIRCLES_STD**2
    terms = [
        -(r - radius).square() / (2 * variance) + torch.special.i0e(r * radius / variance).log()
        for radius in planar.CIRCLES_RADII
    ]
    return torch.logaddexp(*terms) - math.log(2 * 2 * math.pi * variance)


def _pinwheel(x: Tensor) -> Tensor:
    """The sum over the radii r at which an arm passes: p(x) = ¼·⅕ Σ N(r; 1, 0.3²) N(τ; 0, 0.1²) / |g′(r)|.

    An arm sends (r, τ) to x/2 = r·u(r) + τ·v(r), with u at the angle −(arm + ¼eʳ) and v across it, so its
    radii are the roots of g(r) = u(r)·x/2 − r. They are bracketed on a grid and polished by Newton's steps.
    """
    arms = 2 * math.pi / 5 * torch.arange(5, dtype=x.dtype)[:, None]
    radius = torch.linspace(-1.5, 3.5, 400, dtype=x.dtype)

    def across(r: Tensor, x1: Tensor, x2: Tensor, arm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        angle = arm + 0.25 * r.exp()
        cos, sin = angle.cos(), angle.sin()
        tau = (x1 * sin + x2 * cos) / 2
        return (x1 * cos - x2 * sin) / 2 - r, tau, -0.25 * r.exp() * tau - 1  # g, τ, g′

    g, _, _ = across(radius, x[:, :1, None], x[:, 1:, None], arms)  # [N, 5, 400]
    point, arm, left = torch.nonzero(g[..., :-1] * g[..., 1:] <= 0, as_tuple=True)
    x1, x2, arm_angle = x[point, 0], x[point, 1], arms[arm, 0]
    a, b = g[point, arm, left], g[point, arm, left + 1]
    r = radius[left] + (radius[1] - radius[0]) * a / (a - b)
    for _ in range(4):
        value, tau, slope = across(r, x1, x2, arm_angle)
        r = r - value / slope
    _, tau, slope = across(r, x1, x2, arm_angle)
    density = (-((r - 1) / 0.3).square() / 2 - (tau / 0.1).square() / 2).exp() / slope.abs()
    total = torch.zeros(len(x), dtype=x.dtype).index_add_(0, point, density)
    return total.log() - math.log(4 * 5 * 2 * math.pi * 0.3 * 0.1)


def _moons(x: Tensor) -> Tensor:
    angle, log_weights = _gauss_legendre(0, math.pi)
    curves = [planar.moons_curve(angle, torch.full_like(angle, lower, dtype=torch.bool)) for lower in (0, 1)]
    return _smeared(
        x, torch.cat(curves), torch.cat([log_weights, log_weights]) - math.log(2), planar.MOONS_STD
    )


def _swissroll(x: Tensor) -> Tensor:
    angle, log_weights = _gauss_legendre(1.5 * math.pi, 4.5 * math.pi)
    return _smeared(x, planar.swissroll_curve(angle), log_weights, planar.SWISSROLL_STD)


def _spirals(x: Tensor) -> Tensor:
    """Gaussian plus uniform noise on each coordinate: (Φ((d)/σ) − Φ((d − b)/σ))/b, d = x − curve."""
    root, log_weights = _gauss_legendre(0, 1)
    # angle = 3π√u, and u = s² makes the integrand smooth: ∫ f(√u) du = ∫ f(s)·2s ds.
    curve, log_weights = planar.spirals_curve(3 * math.pi * root), log_weights + (2 * root).log()
    arms = []
    for sign in (1, -1):
        box = [
            _log_cdf_difference(sign * x[:, k : k + 1] - curve[:, k], planar.SPIRALS_BOX, planar.SPIRALS_STD)
            for k in range(2)
        ]
        arms.append(_logsumexp(log_weights + box[0] + box[1]))
    return torch.logaddexp(*arms) - math.log(2)


def _log_cdf_difference(d: Tensor, box: float, std: float) -> Tensor:
    """log [(Φ(d/σ) − Φ((d − b)/σ))/b], by the tail on the side where it does not cancel."""
    upper, lower = d / std, (d - box) / std
    flip = lower > 0
    a, b = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    high, low = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    difference: Tensor = high + torch.log1p(-(low - high).exp()) - math.log(box)
    return difference


def _checkerboard(x: Tensor) -> Tensor:
    """Uniform over the squares (i, j), i + j even, of [−4, 4)²."""
    square = (x / planar.CHECKERBOARD_SIDE).floor()
    inside = ((square >= -2) & (square < 2)).all(1) & (square.sum(1) % 2 == 0)
    return torch.where(inside, -entropy("checkerboard"), -math.inf).double()


DENSITIES = {
    "2spirals": _spirals,
    "8gaussians": _gaussians,
    "pinwheel": _pinwheel,
    "circles": _circles,
    "moons": _moons,
    "swissroll": _swissroll,
    "checkerboard": _checkerboard,
}
