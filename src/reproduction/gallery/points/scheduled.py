"""The bound of DDPM as a function of the schedule too: a model that is built anew from its β at every step."""

import torch
from torch import nn

from mlegfn.diffusion.likelihood import prior_term
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.randomness import generator

__all__ = ["FixedSchedule", "Scheduled", "bound", "bound_loss"]


class FixedSchedule(nn.Module):
    """β_1 … β_T that nothing trains."""

    def __init__(self, betas):
        super().__init__()
        self.register_buffer("table", torch.as_tensor(betas, dtype=torch.float64))

    def betas(self):
        return self.table


class Scheduled(nn.Module):
    """A network, a schedule, and the variance of the last step, trained together.

    P_F has the posterior's variance β̃_t for t ≥ 2, as in variational diffusion models, and at t = 1 the variance
    e^ρ (1 − ᾱ_1)/ᾱ_1 with a learned ρ: x_0's spread about x_1/√ᾱ_1 times what the network cannot remove of it.

    network(x, time) → v_θ, and ε_θ = √(1 − ᾱ_t) x + √ᾱ_t v_θ (T. Salimans, J. Ho 2022, arXiv 2202.00512, §4): a step
    from far more noise to less multiplies errors of ε by up to a thousand, which a network that answered ε itself
    would first have to unlearn, under one schedule more than under another.
    schedule: ``betas()`` [T]; levels: as for ``DenoisingModel``.
    """

    def __init__(self, network, schedule, levels=None):
        super().__init__()
        self.network, self.schedule, self.levels = network, schedule, levels
        self.rho = nn.Parameter(torch.zeros(()))

    def model(self):
        """``DenoisingModel`` with the present weights and β; differentiable in both."""
        process = GaussianDiffusion(self.schedule.betas())
        table = fixed_log_variance(process, "small")
        last = (process.noise_variance[1] / process.alpha_bar[1]).log() + self.rho.double()
        table = torch.cat([table[:1], last[None], table[2:]])

        def eps(x, time):
            t = time + 1  # the network counts from 0, the process's tables from x_0
            v = self.network(x, time)
            return process.table("noise_std", t, x) * x + process.table("sqrt_alpha_bar", t, x) * v

        return DenoisingModel(eps, process, table, self.levels)


def bound(model, x_0, t, eps):
    """[], nats a dimension: L_T + Σ_t L_{t−1} + L_0 (Ho et al. 2020, eq. 5), from one term a datum x_0 [N, ...].

    t [N] holds each of 1…T equally often, or is uniform on them; eps as x_0. Unbiased; its gradient goes through
    x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε into the schedule as well as through the network.
    """
    x_t = model.process.noise(x_0, t, eps)
    steps = model.timesteps * model.bound_terms(x_0, x_t, t).mean()
    return (steps + prior_term(model.process, x_0).mean().to(steps.dtype)) / x_0[0].numel()


def bound_loss(scheduled, data, batch, seed, *key):
    """loss(step) → ``bound`` of ``data(step)`` [batch, ...], at times spread evenly over 1…T and noise of (seed, *key)."""

    def loss(step):
        model = scheduled.model()
        draw = generator(seed, "gallery", *key, "noise", step)
        offset = torch.randint(model.timesteps, (1,), generator=draw)
        t = (torch.arange(batch) + offset) % model.timesteps + 1
        x_0 = data(step)
        return bound(model, x_0, t, torch.randn(x_0.shape, generator=draw))

    return loss
