"""The Schrödinger bridge between two Gaussians, exactly: in closed form, and by half-steps without sampling.

The reference is Brownian motion of variance σ² over the whole time. Of all couplings of p_0 = N(m_0, Σ_0) and
p_T = N(m_T, Σ_T) the bridge has the one nearest to the reference's; between two endpoints it is the reference's
own Brownian bridge, so it is exact on any grid of times.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Chain", "Gaussian", "bridge_moments", "coupling"]


@dataclass(frozen=True)
class Gaussian:
    """N(mean [d], cov [d, d]): an endpoint of a bridge."""

    mean: Tensor
    cov: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        log_prob: Tensor = torch.distributions.MultivariateNormal(self.mean, self.cov).log_prob(x)
        return log_prob

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(count, len(self.mean), generator=generator, dtype=self.mean.dtype)
        drawn: Tensor = self.mean + noise @ torch.linalg.cholesky(self.cov).T
        return drawn


def root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    found: Tensor = (vectors * values.sqrt()) @ vectors.T
    return found


def coupling(cov_0: Tensor, cov_T: Tensor, variance: float) -> Tensor:
    """[d, d]: Cov(x_0, x_T) of the bridge, with σ² = ``variance``,

        C = ½ (Σ_0^½ (4 Σ_0^½ Σ_T Σ_0^½ + σ⁴ I)^½ Σ_0^−½ − σ² I)

    Mallasto et al. 2021 (arXiv 2006.03416), Bunne et al. 2023 (arXiv 2202.05722), whose σ² it is: entropic
    transport of cost |x − y|² with the weight 2σ² on the entropy. It is *the* C for which the precision of
    (x_0, x_T) has −I/σ² off its diagonal, as the density e^{x·y/σ²} a(x) b(y) of a bridge must.
    """
    eye, half = torch.eye(len(cov_0), dtype=cov_0.dtype), root(cov_0)
    inner = root(4 * half @ cov_T @ half + variance**2 * eye)
    cross: Tensor = (half @ inner @ torch.linalg.inv(half) - variance * eye) / 2
    return cross


def bridge_moments(
    p_0: Gaussian, p_T: Gaussian, variance: float, elapsed: Tensor, cov_0T: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean [K, d] and covariance [K, d, d] of the bridge at the fractions ``elapsed`` [K] of σ², from x_0 to x_T:

        x_s = (1−s) x_0 + s x_T + N(0, σ² s(1−s) I)

    ``cov_0T`` is Cov(x_0, x_T) where it is not the bridge's, to show what a wrong one gives.
    """
    cross = coupling(p_0.cov, p_T.cov, variance) if cov_0T is None else cov_0T
    s = elapsed[:, None, None]
    eye = torch.eye(len(cross), dtype=cross.dtype)
    mean = (1 - elapsed[:, None]) * p_0.mean + elapsed[:, None] * p_T.mean
    cov = (1 - s) ** 2 * p_0.cov + s**2 * p_T.cov + s * (1 - s) * (cross + cross.T + variance * eye)
    return mean, cov


@dataclass(frozen=True)
class Chain:
    """A Gaussian ``start`` and T steps y → N(gain y + shift, noise): gain, noise [T, d, d], shift [T, d].

    Steps stand in the order in which they run: the first of P_B is t = 1, the first of P_F is t = T.
    """

    start: Gaussian
    gain: Tensor
    shift: Tensor
    noise: Tensor

    def moments(self) -> tuple[Tensor, Tensor]:
        """The exact marginals: mean [T+1, d], covariance [T+1, d, d]."""
        means, covs = [self.start.mean], [self.start.cov]
        for gain, shift, noise in zip(self.gain, self.shift, self.noise):
            means.append(gain @ means[-1] + shift)
            covs.append(gain @ covs[-1] @ gain.T + noise)
        return torch.stack(means), torch.stack(covs)

    def reversed(self, start: Gaussian, noise: Tensor | None = None) -> "Chain":
        """A half-step of iterative proportional fitting without sampling: the ``Chain`` that runs the other way
        from ``start`` with the steps that are nearest, in D_KL, to this chain run backwards.

        Those are its conditionals P(y|y′), Gaussian again. With ``noise`` [T, d, d] given (in the order of the
        result) only their means are fitted.
        """
        mean, cov = self.moments()
        gain = torch.linalg.solve(cov[1:], self.gain @ cov[:-1]).mT
        shift = mean[:-1] - (gain @ mean[1:, :, None])[..., 0]
        fitted = cov[:-1] - gain @ cov[1:] @ gain.mT
        return Chain(start, gain.flip(0), shift.flip(0), fitted.flip(0) if noise is None else noise)

    def end_cross_covariance(self) -> Tensor:
        """[d, d]: Cov(end, start)."""
        product = torch.eye(len(self.start.mean), dtype=self.start.mean.dtype)
        for gain in self.gain:
            product = gain @ product
        return product @ self.start.cov
