"""Models whose right answers are known: an exact 1-D Gaussian, a joint Gaussian as a matrix, tiny networks."""

import math
from types import SimpleNamespace

import torch

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.randomness import generator

# T → the schedule whose last ᾱ is about 1e-5, so that N(0, 1) is the law of x_T to 1e-5.
LINEAR = {1000: (1e-4, 0.02), 50: (0.002, 0.4), 8: (0.05, 0.95), 6: (0.05, 0.95)}


def linear_process(timesteps):
    """A linear schedule that ends near pure noise."""
    return GaussianDiffusion(betas(timesteps, "linear", *LINEAR[timesteps]))


def exact_gaussian(process, variance, levels=None):
    """The exact reverse of ``process`` for data N(0, variance), as a ``DenoisingModel``.

    With v_t = ᾱ_t s² + 1 − ᾱ_t: E[ε | x_t] = √(1 − ᾱ_t) x_t / v_t, and Var[x_{t−1} | x_t] = β_t v_{t−1} / v_t.
    """
    v = process.alpha_bar * variance + 1 - process.alpha_bar
    slope = (1 - process.alpha_bar).sqrt() / v
    reverse = torch.ones_like(v)
    reverse[1:] = process.beta[1:] * v[:-1] / v[1:]

    def network(x, time):  # time counts from 0, as diffusers does
        return slope.to(x.dtype)[time + 1].view(-1, *[1] * (x.ndim - 1)) * x

    return DenoisingModel(network, process, reverse.log(), levels)


def gaussian_log_prob(x, variance):
    """log N(x; 0, variance), elementwise."""
    return -0.5 * (x**2 / variance + math.log(2 * math.pi * variance))


def joint_gaussian(process, x0):
    """Mean [T] and covariance [T, T] of (x_1, …, x_T) given a scalar x_0, from the recursion as a matrix.

    x_t − √α_t x_{t−1} = √β_t ε_t reads A x = √α_1 x_0 e_1 + D ε, so x = A⁻¹(…): nothing of process.py's
    closed forms is used but β itself.
    """
    beta = process.beta[1:]
    A = torch.diag(torch.ones_like(beta)) - torch.diag((1 - beta[1:]).sqrt(), -1)
    inverse = torch.linalg.inv(A)
    source = torch.zeros_like(beta)
    source[0] = (1 - beta[0]).sqrt() * x0
    return inverse @ source, inverse @ torch.diag(beta) @ inverse.T


def condition(mean, covariance, wanted, given, values):
    """Mean and variance of coordinate ``wanted`` of a Gaussian, given the coordinates ``given``."""
    gain = torch.linalg.solve(covariance[given][:, given], covariance[given, wanted])
    centre = mean[wanted] + gain @ (values - mean[given])
    return centre, covariance[wanted, wanted] - gain @ covariance[given, wanted]


class TinyNetwork(torch.nn.Module):
    """A two-layer perceptron on flattened pixels and √(time): smooth, nonlinear, a millisecond."""

    def __init__(self, dims=4, hidden=8, outputs=1, dropout=0.0, seed=0, dtype=torch.float64):
        super().__init__()
        self.first = torch.nn.Linear(dims + 1, hidden, dtype=dtype)
        self.dropout = torch.nn.Dropout(dropout)
        self.second = torch.nn.Linear(hidden, dims * outputs, dtype=dtype)
        self.outputs = outputs
        draw = generator(seed, "tiny")
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=draw, dtype=dtype))

    def forward(self, x, time):
        inputs = torch.cat([x.flatten(1), (time[:, None].to(x.dtype) + 1).sqrt() / 4], dim=1)
        out = self.second(self.dropout(torch.tanh(self.first(inputs))))
        return out.view(len(x), self.outputs * x.shape[1], *x.shape[2:])


class Counting:
    """A network that counts the states it sees, and those that it sees with gradients on."""

    def __init__(self, network):
        self.network, self.forward, self.backward, self.largest = network, 0, 0, 0

    def __call__(self, x, time):
        self.forward += len(x)
        self.backward += len(x) if torch.is_grad_enabled() else 0
        self.largest = max(self.largest, len(x))
        return self.network(x, time)


def settings(**changes):
    """Consistency settings (config.Consistency's names) with small defaults."""
    defaults = {
        "trajectories": 2,
        "chain": "full",
        "chain_steps": 3,
        "gradient": "exact",
        "gradient_steps": 2,
        "chunk": 7,
        "loss": "square",
        "huber_delta": 0.5,
        "per_dimension": False,
    }
    return SimpleNamespace(**(defaults | changes))


def gradients(network):
    """All gradients of a network as one vector."""
    return torch.cat([p.grad.flatten() for p in network.parameters()])
