"""The policies of a Schrödinger bridge: Gaussian steps about a Brownian motion's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional as F

from mlegfn.families.shared.bridge.gaussian import Chain

if TYPE_CHECKING:
    from torch import Tensor

    from mlegfn.families.shared.bridge.gaussian import Gaussian

__all__ = ["Affine", "Kernel", "step_variances"]


def step_variances(timesteps: int, variance: float) -> Tensor:
    """[T] float64: the reference's variance of each step; they sum to σ². Short steps at the ends, where details
    are, long ones between, as De Bortoli et al. 2021 have them."""
    t = torch.arange(1, timesteps + 1, dtype=torch.float64)
    weight = torch.minimum(t, timesteps + 1 - t)
    return variance * weight / weight.sum()


def matrices(table: Tensor, time: Tensor, x: Tensor) -> Tensor:
    """[N, d]: table[time_n] x_n; table [T, d, d], x [N, d]."""
    rows = F.embedding(time, table.flatten(1)).view(-1, *table.shape[1:])  # indexing has a slow gradient
    return (rows * x[:, None]).sum(2)


class Affine(nn.Module):
    """(x [N, d], time int64 [N] in 0…T−1) → drift [N, d], affine in x at each time: all that Gaussians need."""

    def __init__(self, timesteps: int, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(timesteps, dimension, dimension))
        self.shift = nn.Parameter(torch.zeros(timesteps, dimension))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return matrices(self.weight, time, x) + F.embedding(time, self.shift)


class Kernel(nn.Module):
    """One policy: N(x + v_t u(x, t), v_t (WᵀW)⁻¹), v_t the reference's variance of step t, W = W_t lower triangular
    [d, d], at first I.

    u is the network ``drift``: per unit of variance, as then all times have drifts of one size. For short steps the
    bridge's u is ∇ log of a potential and W is I; for steps that are not, W is needed (docs/math.md).
    """

    std: Tensor

    def __init__(self, drift: nn.Module, variances: Tensor, dimension: int) -> None:
        super().__init__()
        self.drift = drift
        self.register_buffer("std", variances.sqrt().to(next(drift.parameters()).dtype))
        # Below the diagonal W itself, on it log W.
        self.whitening = nn.Parameter(torch.zeros(len(variances), dimension, dimension, dtype=self.std.dtype))

    def factor(self) -> Tensor:
        """W / √v_t, [T, d, d]."""
        diagonal = self.whitening.diagonal(dim1=1, dim2=2).exp()
        return (self.whitening.tril(-1) + torch.diag_embed(diagonal)) / self.std[:, None, None]

    def mean(self, before: Tensor, time: Tensor) -> Tensor:
        """[N, d]; time = t − 1."""
        mean: Tensor = before + F.embedding(time, self.std.square()[:, None]) * self.drift(before, time)
        return mean

    def log_prob(self, after: Tensor, before: Tensor, t: Tensor) -> Tensor:
        """[N]: log density of the step of time t from ``before`` to ``after``."""
        factor, time = self.factor(), t - 1
        z = matrices(factor, time, after - self.mean(before, time))
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return (
            F.embedding(time, log_det[:, None])[:, 0]
            - (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2
        )

    def step(self, before: Tensor, t: int, generator: torch.Generator) -> Tensor:
        """A draw of the step of time ``t``, a number."""
        noise = torch.randn(before.shape, generator=generator, dtype=before.dtype)
        scaled: Tensor = torch.linalg.solve_triangular(self.factor()[t - 1], noise.T, upper=False).T
        return self.mean(before, torch.full((len(before),), t - 1)) + scaled

    def chain(self, start: Gaussian, order: Tensor) -> Chain:
        """What it does from a Gaussian ``start``, where the drift is ``Affine``; ``order`` of its steps, [T]."""
        drift = cast("Affine", self.drift)  # all that Gaussians need
        eye = torch.eye(drift.shift.shape[1], dtype=self.std.dtype)
        precision = self.factor().mT @ self.factor()
        return Chain(
            start,
            (eye + self.std[:, None, None].square() * drift.weight)[order].detach(),
            (self.std[:, None].square() * drift.shift)[order].detach(),
            torch.linalg.inv(precision)[order].detach(),
        )

    @torch.no_grad()
    def set(self, chain: Chain, order: Tensor) -> None:
        """Become ``chain``, the inverse of :meth:`chain`."""
        drift = cast("Affine", self.drift)  # all that Gaussians need
        eye = torch.eye(drift.shift.shape[1], dtype=self.std.dtype)
        drift.weight[order] = (chain.gain - eye) / self.std[order, None, None].square()
        drift.shift[order] = chain.shift / self.std[order, None].square()
        factor = torch.linalg.inv(torch.linalg.cholesky(chain.noise)) * self.std[order, None, None]
        self.whitening[order] = factor.tril(-1) + torch.diag_embed(factor.diagonal(dim1=1, dim2=2).log())
