"""Diffusion as a stochastic differential equation that preserves variance: DDPM's limit of small steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlegfn.families.shared.diffusion.score import ScoreSDE

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["VariancePreserving"]

BETA_MIN, BETA_MAX = 0.1, 10.0  # a unit horizon


class VariancePreserving(ScoreSDE):
    """dx = −½β(t) x dt + √β(t) dW, β rising linearly (VP), in T steps (Song et al. 2021,
    arXiv 2011.13456, eq. 11).

    Detailed balance of one step, with the state flow F(x, t) = p_t(x), has the residual √h g ε·(∇log p_t −
    s_θ) + O(h): squared, in expectation and over h it *is* score matching as h → 0, with conditional flows
    F(x, t|x_0) = q(x_t|x_0) denoising score matching (Proposition 4). Trained by that limit, scored as the
    chain of T Euler–Maruyama steps that it is, and by the probability-flow ODE.
    """

    title = "Diffusion SDE, variance preserving"
    order = 21

    def drift(self, t: Tensor) -> Tensor:
        return -self.diffusion2(t) / 2

    def diffusion2(self, t: Tensor) -> Tensor:
        return (BETA_MIN + (BETA_MAX - BETA_MIN) * t / self.horizon) / self.horizon

    def level(self, t: Tensor) -> Tensor:
        """log (1 − e^−B)/e^−B with B = ∫ β."""
        part = t / self.horizon
        return torch.expm1(BETA_MIN * part + (BETA_MAX - BETA_MIN) * part**2 / 2).log()

    def scale(self, u: Tensor) -> Tensor:
        return torch.sigmoid(-u).sqrt()

    @staticmethod
    def grid(timesteps: int) -> Tensor:
        """Quadratic: the first steps, where there is hardly any noise, are to add only a little."""
        return torch.linspace(0, 1, timesteps + 1, dtype=torch.float64) ** 2
