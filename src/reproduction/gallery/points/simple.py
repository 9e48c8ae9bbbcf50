"""A diffusion model in the plane: the network, the process around it, and the loss of DDPM."""

import torch

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.networks.mlp import TimeMLP
from mlegfn.randomness import generator
from reproduction.gallery.fitting import initialised

__all__ = ["model_of", "new_network", "simple_loss"]


def new_network(settings, seed, *key):
    """The perceptron of a block with timesteps, hidden and layers, initialised by (seed, *key)."""
    return initialised(lambda: TimeMLP(settings.timesteps, settings.hidden, settings.layers), seed, *key)


def model_of(network, settings):
    """P_F of ε_θ = ``network`` with σ_t² = β̃_t, for continuous data; the schedule is that of ``settings``."""
    process = GaussianDiffusion(
        betas(settings.timesteps, settings.beta_schedule, settings.beta_start, settings.beta_end)
    )
    return DenoisingModel(network, process, fixed_log_variance(process, "small"))


def simple_loss(model, problem, batch, seed, *key):
    """loss(step) → E‖ε − ε_θ(x_t, t)‖² over ``batch`` fresh points (L_simple: Ho et al. 2020, eq. 14, a coordinate)."""

    def loss(step):
        draw = generator(seed, "gallery", *key, "noise", step)
        x_0 = problem.draw(batch, seed, *key, "train", step)
        t = torch.randint(1, model.timesteps + 1, (batch,), generator=draw)
        eps = torch.randn(x_0.shape, generator=draw)
        return (eps - model.predict(model.process.noise(x_0, t, eps), t).eps).square().mean()

    return loss
