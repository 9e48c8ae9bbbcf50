"""Diffusion as a stochastic differential equation whose variance explodes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from mlegfn.families.shared.diffusion.score import ScoreSDE

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["VarianceExploding"]

# Of data with unit variance: σ_max is about the largest distance between two points (Song & Ermon 2020,
# arXiv 2006.09011, §3.1).
SIGMA_MIN, SIGMA_MAX = 0.05, 5.0


class VarianceExploding(ScoreSDE):
    """dx = √(dσ²/dt) dW, σ(t) from σ_min to σ_max by a geometric law (VE; Song et al. 2021,
    arXiv 2011.13456, eq. 9).

    No drift: noise is added until nothing else is seen, q(x_t|x_0) = N(x_0, σ(t)² − σ_min²). The same
    Proposition 4, the same training and the same scores as the variance-preserving equation's.
    """

    title = "Diffusion SDE, variance exploding"
    order = 22

    def _rate(self) -> float:
        """d log σ²/dt."""
        return 2 * math.log(SIGMA_MAX / SIGMA_MIN) / self.horizon

    def drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def diffusion2(self, t: Tensor) -> Tensor:
        return self._rate() * SIGMA_MIN**2 * (self._rate() * t).exp()

    def level(self, t: Tensor) -> Tensor:
        return (SIGMA_MIN**2 * torch.expm1(self._rate() * t)).log()

    def scale(self, u: Tensor) -> Tensor:
        return torch.ones_like(u)

    @staticmethod
    def grid(timesteps: int) -> Tensor:
        return torch.linspace(0, 1, timesteps + 1, dtype=torch.float64)
