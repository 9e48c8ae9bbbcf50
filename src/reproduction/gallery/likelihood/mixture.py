"""Data whose optimal denoiser is closed form: an isotropic mixture of Gaussians."""

import math

import torch

__all__ = ["GaussianMixture", "eight_gaussians"]


class GaussianMixture:
    """x_0 ~ 1/K Σ_k N(m_k, s² I), means [K, D]; then x_t ~ 1/K Σ_k N(√ᾱ m_k, (ᾱ s² + 1 − ᾱ) I) for every ᾱ in (0, 1]."""

    def __init__(self, means, std):
        if means.ndim != 2 or not std > 0:
            raise ValueError(f"means must be [K, D] and std > 0, got {list(means.shape)} and {std}")
        self.means, self.std = means, float(std)

    def sample(self, count, generator):
        """[count, D] draws of x_0."""
        rows = torch.randint(len(self.means), (count,), generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[rows] + self.std * noise

    def log_prob(self, x, alpha_bar=1.0):
        """[N], nats: the log-density of x [N, D] as x_t; alpha_bar: a number or [N]."""
        alpha_bar = torch.as_tensor(alpha_bar, dtype=x.dtype).expand(len(x))
        _, energies, variance = self._components(x, alpha_bar)
        return (
            torch.logsumexp(energies, 1)
            - math.log(len(self.means))
            - x.shape[1] / 2 * (math.log(2 * math.pi) + variance.log())
        )

    def eps(self, x, alpha_bar):
        """[N, D]: E[ε | x_t = x], what a perfect network says; alpha_bar: a number or [N], below 1.

        In component k, E[ε | x, k] = √(1 − ᾱ) (x − √ᾱ m_k) / (ᾱ s² + 1 − ᾱ).
        """
        alpha_bar = torch.as_tensor(alpha_bar, dtype=x.dtype).expand(len(x))
        offsets, energies, variance = self._components(x, alpha_bar)
        mean = (energies.softmax(1)[..., None] * offsets).sum(1)
        return ((1 - alpha_bar).sqrt() / variance)[:, None] * mean

    def _components(self, x, alpha_bar):
        """(x − √ᾱ m_k [N, K, D], log N's exponents [N, K], variances [N])."""
        means = self.means.to(x.dtype)
        offsets = x[:, None] - alpha_bar.sqrt()[:, None, None] * means
        variance = alpha_bar * self.std**2 + 1 - alpha_bar
        return offsets, -0.5 * offsets.square().sum(2) / variance[:, None], variance


def eight_gaussians():
    """The planar problem of this name, with coordinates of unit variance."""
    from mlegfn.data.planar import GAUSSIANS_STD, gaussians_centres

    centres = gaussians_centres()
    scale = (centres.square().sum(1).mean() / 2 + GAUSSIANS_STD**2).sqrt().item()
    return GaussianMixture(centres / scale, GAUSSIANS_STD / scale)
