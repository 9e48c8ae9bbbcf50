"""The exact model of Gaussian data: what every sampler must get right, because the answer is known."""

import torch

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import fixed_log_variance

__all__ = ["gaussian_model"]


def gaussian_model(process, covariance, mean=None):
    """P_F with the exact ε* of x_0 ~ N(m, Σ), for states [N, D] or [N, 1, 1, D]; ``covariance`` [D, D].

    x_t ~ N(√ᾱ_t m, ᾱ_t Σ + (1 − ᾱ_t) I) =: N(√ᾱ_t m, Σ_t), and E[ε | x_t] = √(1 − ᾱ_t) Σ_t⁻¹ (x_t − √ᾱ_t m).
    process: one that counts its own times (``respaced`` ones do not: shorten the model instead).
    Raises ValueError unless the covariance is symmetric and positive definite.
    """
    covariance = covariance.double()
    values, vectors = torch.linalg.eigh(covariance)
    if not torch.equal(covariance, covariance.T) or values.min() <= 0:
        raise ValueError("a covariance is symmetric and has no eigenvalue ≤ 0")
    mean = torch.zeros(len(covariance), dtype=torch.float64) if mean is None else mean.double()

    def network(x, time):
        t = time + 1
        alpha_bar, std = process.alpha_bar[t][:, None], process.noise_std[t][:, None]
        centred = x.flatten(1).double() - process.sqrt_alpha_bar[t][:, None] * mean
        eps = std * ((centred @ vectors) / (alpha_bar * values + std.square())) @ vectors.T
        return eps.view(x.shape).to(x.dtype)

    return DenoisingModel(network, process, fixed_log_variance(process, "small"))
