"""A mixture of isotropic Gaussians on a grid: the continuous target with modes that a policy can miss.

The task of arXiv 2410.09355: nine Gaussians in the plane, built coordinate after coordinate.
"""

import math

import torch
from torch import Tensor

from mlegfn.targets.points import as_points

__all__ = ["GaussianMixture"]

BEYOND = 6.0  # standard deviations from the outermost centres to the box, 1e-9 of whose mass is beyond a side


class GaussianMixture:
    """x ∈ R^D, coordinate after coordinate, with K = side^D centres c_k on a grid around 0 and

        R(x) = Σ_k N(x; c_k, v I),    Z = K

    One trajectory leads to each x: P_B is 1. A target over points has ``dimensions`` D, ``log_reward``,
    ``log_z``, ``log_prob`` and ``box``; the spacing and variance are those of GFNOrg/gfn-diffusion's
    ``nine_gmm.py``: nine standard deviations from one mode to the next.
    """

    def __init__(
        self, dimensions: int = 2, side: int = 3, spacing: float = 5.0, variance: float = 0.3
    ) -> None:  # assumed: spacing and variance
        if dimensions < 1 or side < 1 or not (spacing > 0 and variance > 0):
            raise ValueError(
                "a mixture has dimensions and side ≥ 1, spacing and variance > 0, "
                f"not {dimensions}, {side}, {spacing}, {variance}"
            )
        axis = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * spacing
        self.centres = torch.cartesian_prod(*[axis] * dimensions).view(-1, dimensions)
        self.dimensions, self.variance = dimensions, variance
        reach = axis[-1] + BEYOND * math.sqrt(variance)
        self.box = (-reach.expand(dimensions), reach.expand(dimensions))

    @property
    def log_z(self) -> Tensor:
        """[]: log K, nats."""
        return torch.tensor(float(len(self.centres)), dtype=torch.float64).log()

    def log_reward(self, x: Tensor) -> Tensor:
        """[N, D] → float64 [N]: log R(x), nats."""
        x = as_points(x, self.dimensions)
        squared = (x[:, None] - self.centres.to(x.device)).square().sum(2)
        constant = self.dimensions / 2 * math.log(2 * math.pi * self.variance)
        return (-squared / (2 * self.variance)).logsumexp(1) - constant

    def log_prob(self, x: Tensor) -> Tensor:
        """[N, D] → float64 [N]: the density log R(x)/Z, nats."""
        return self.log_reward(x) - self.log_z.to(x.device)

    def sample(self, count: int, rng: torch.Generator) -> Tensor:
        """float64 [count, D], exact: a centre, then normal noise around it."""
        which = torch.randint(len(self.centres), (count,), generator=rng)
        noise = torch.randn(count, self.dimensions, generator=rng, dtype=torch.float64)
        return self.centres[which] + math.sqrt(self.variance) * noise
