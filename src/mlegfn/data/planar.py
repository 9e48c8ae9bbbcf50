"""The seven planar problems, as i.i.d. samplers in the scaling of the field's code.

Definitions and scales are those of W. Grathwohl et al., *FFJORD* (2019), whose toy data Zhang et al.,
*EB-GFN* (2022), use too. Two differences make the points independent: there, circles and moons lie on
a regular grid of angles, and the two spirals (circles, moons) have exactly half of the points each.
"""

import math

import torch
from torch import Tensor

__all__ = ["SAMPLERS", "gaussians_centres", "moons_curve", "sample", "spirals_curve", "swissroll_curve"]

CHECKERBOARD_SIDE = 2.0  # of each of its 8 squares
GAUSSIANS_RADIUS = 4 / 1.414  # the scaling's 1.414 is not √2
GAUSSIANS_STD = 0.5 / 1.414
CIRCLES_RADII = (3.0, 1.5)
CIRCLES_STD = 3 * 0.08
MOONS_STD = 2 * 0.1
SWISSROLL_STD = 1 / 5
SPIRALS_STD = 0.1
SPIRALS_BOX = 0.5 / 3  # side of the uniform noise on each spiral


def _uniform(n: int, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)


def _normal(n: int, generator: torch.Generator, std: float = 1.0) -> Tensor:
    return std * torch.randn(n, 2, generator=generator, dtype=torch.float64)


def _choice(n: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(count, (n,), generator=generator)


def spirals_curve(angle: Tensor) -> Tensor:
    """The first arm before its noise, [N] angles in (0, 3π) → [N, 2]; the second is its mirror image."""
    return torch.stack([-torch.cos(angle) * angle, torch.sin(angle) * angle], 1) / 3


def moons_curve(angle: Tensor, lower: Tensor) -> Tensor:
    """Half circles before their noise: [N] angles in (0, π), which of the two [N] bool → [N, 2]."""
    x, y = torch.cos(angle), torch.sin(angle)
    shape = torch.stack([torch.where(lower, 1 - x, x), torch.where(lower, 0.5 - y, y)], 1)
    return 2 * shape + torch.tensor([-1.0, -0.2], dtype=angle.dtype)


def swissroll_curve(angle: Tensor) -> Tensor:
    """The roll before its noise: [N] angles in (3π/2, 9π/2) → [N, 2]."""
    return torch.stack([angle * torch.cos(angle), angle * torch.sin(angle)], 1) / 5


def gaussians_centres() -> Tensor:
    """[8, 2]: the means of 8gaussians."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return GAUSSIANS_RADIUS * torch.stack([angle.cos(), angle.sin()], 1)


def _spirals(n: int, generator: torch.Generator) -> Tensor:
    angle = 3 * math.pi * _uniform(n, generator).sqrt()
    box = torch.stack([_uniform(n, generator, 0, SPIRALS_BOX) for _ in range(2)], 1)
    sign = 1 - 2 * _choice(n, 2, generator)
    return sign[:, None] * (spirals_curve(angle) + box) + _normal(n, generator, SPIRALS_STD)


def _gaussians(n: int, generator: torch.Generator) -> Tensor:
    return gaussians_centres()[_choice(n, 8, generator)] + _normal(n, generator, GAUSSIANS_STD)


def _pinwheel(n: int, generator: torch.Generator) -> Tensor:
    arm = 2 * math.pi / 5 * _choice(n, 5, generator)
    radial, tangential = (_normal(n, generator) * torch.tensor([0.3, 0.1], dtype=torch.float64)).T
    radial = 1 + radial
    angle = arm + 0.25 * radial.exp()
    x = radial * angle.cos() + tangential * angle.sin()
    y = -radial * angle.sin() + tangential * angle.cos()
    return 2 * torch.stack([x, y], 1)


def _circles(n: int, generator: torch.Generator) -> Tensor:
    angle = _uniform(n, generator, 0, 2 * math.pi)
    radius = torch.tensor(CIRCLES_RADII, dtype=torch.float64)[_choice(n, 2, generator)]
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1) + _normal(n, generator, CIRCLES_STD)


def _moons(n: int, generator: torch.Generator) -> Tensor:
    angle = _uniform(n, generator, 0, math.pi)
    return moons_curve(angle, _choice(n, 2, generator).bool()) + _normal(n, generator, MOONS_STD)


def _swissroll(n: int, generator: torch.Generator) -> Tensor:
    angle = _uniform(n, generator, 1.5 * math.pi, 4.5 * math.pi)
    return swissroll_curve(angle) + _normal(n, generator, SWISSROLL_STD)


def _checkerboard(n: int, generator: torch.Generator) -> Tensor:
    x = _uniform(n, generator, -2, 2)
    y = _uniform(n, generator) - 2 * _choice(n, 2, generator) + x.floor() % 2
    return CHECKERBOARD_SIDE * torch.stack([x, y], 1)


SAMPLERS = {
    "2spirals": _spirals,
    "8gaussians": _gaussians,
    "pinwheel": _pinwheel,
    "circles": _circles,
    "moons": _moons,
    "swissroll": _swissroll,
    "checkerboard": _checkerboard,
}


def sample(problem: str, n: int, generator: torch.Generator) -> Tensor:
    """``n`` independent points of a problem, float32 [n, 2]; coordinates lie within about ±4.

    :param problem: a key of :data:`SAMPLERS`
    :param generator: a CPU ``torch.Generator``; nothing else is drawn from
    :raises ValueError: for an unknown problem or n < 0
    """
    if problem not in SAMPLERS:
        raise ValueError(f"unknown planar problem {problem!r}; there are {', '.join(SAMPLERS)}")
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    return SAMPLERS[problem](n, generator).float()
