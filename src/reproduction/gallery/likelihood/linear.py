"""A generating chain whose p(x_0) is known exactly: linear and Gaussian, coordinate by coordinate."""

import math

import torch

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import fixed_log_variance

__all__ = ["linear_log_prob", "linear_model"]


def linear_model(process, variance, kind):
    """``DenoisingModel`` with the perfect ε for data N(0, ``variance``) and fixed reverse variances ``kind``, which are
    not the perfect ones: its log w has a spread, and its p(x_0) is another Gaussian than the data's.

    E[ε | x_t] = √(1 − ᾱ_t) x_t / (ᾱ_t s² + 1 − ᾱ_t).
    """
    slope = process.noise_std / (process.alpha_bar * variance + process.noise_variance)

    def network(x, time):
        return slope.to(x.dtype)[time + 1].view(-1, *[1] * (x.ndim - 1)) * x

    return DenoisingModel(network, process, fixed_log_variance(process, kind))


def linear_log_prob(model, x):
    """[N] float64, nats: log p(x) of a linear model. x_{t−1} = a_t x_t + σ_t z, so v_{t−1} = a_t² v_t + σ_t², v_T = 1."""
    one, v = torch.ones(1, 1, dtype=torch.float64), 1.0
    for t in range(model.timesteps, 0, -1):
        time = torch.tensor([t])
        gain = model.process.reverse_mean(one, time, model.predict(one, time).eps).item()
        v = gain**2 * v + model.log_variance[t].exp().item()
    return -0.5 * (x.double().square() / v + math.log(2 * math.pi * v)).flatten(1).sum(1)
