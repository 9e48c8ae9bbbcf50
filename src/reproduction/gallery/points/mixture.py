"""The marginal of noised data, exactly: a mixture of Gaussians with one centre a datum."""

import math

import torch

__all__ = ["Noised", "entropy_and_divergence"]


class Noised:
    """p_t(x) = 1/N Σ_i N(x; √ᾱ_t x_i, (1 − ᾱ_t) I), the marginal of x_t when x_0 is one of N data.

    data [N, D]; process: GaussianDiffusion.
    """

    def __init__(self, data, process):
        self.data, self.process = data.double(), process

    def sample(self, t, count, generator):
        """[count, D] draws of x_t, float64."""
        rows = torch.randint(len(self.data), (count,), generator=generator)
        noise = torch.randn(count, self.data.shape[1], generator=generator, dtype=torch.float64)
        return self.process.noise(self.data[rows], t, noise)

    def log_prob(self, x, t, batch=1024):
        """[M]: log p_t(x) of x [M, D], nats; t in 1…T."""
        if not 1 <= t <= self.process.timesteps:
            raise ValueError(f"x_t has a density for t in 1…{self.process.timesteps}, not at {t}")
        centres = self.process.sqrt_alpha_bar[t] * self.data
        variance, dims = self.process.noise_variance[t].item(), self.data.shape[1]
        constant = math.log(len(centres)) + dims / 2 * math.log(2 * math.pi * variance)
        parts = [
            torch.logsumexp(-torch.cdist(part, centres).square() / (2 * variance), 1) - constant
            for part in x.double().split(batch)
        ]
        return torch.cat(parts)


def entropy_and_divergence(noised, t, count, generator):
    """((H, its standard error), (KL, its standard error)), nats: the entropy of x_t and KL(p_t ‖ N(0, I)).

    Monte Carlo over ``count`` draws of the exact densities; unbiased.
    """
    x = noised.sample(t, count, generator)
    own = noised.log_prob(x, t)
    normal = -0.5 * (x.square() + math.log(2 * math.pi)).sum(1)
    return tuple((value.mean().item(), (value.std() / count**0.5).item()) for value in (-own, own - normal))
