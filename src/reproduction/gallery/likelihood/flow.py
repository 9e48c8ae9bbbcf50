"""The probability-flow ODE of a noising process, and the exact likelihood that it gives a network.

Song et al. 2021, *Score-based generative modeling through stochastic differential equations*, arXiv 2011.13456: the
process dx = −½β(t) x dt + √β(t) dW has the marginals of the ODE

    dx/dt = −½β(t) [x + ∇ log p_t(x)] = −½β(t) [x − ε_θ(x, t)/√(1 − ᾱ(t))],

their eq. 13, so that log p(x_s) = log p(x_T) + ∫_s^T ∇·(dx/dt) dt (eq. 39), with the divergence exactly or by
Hutchinson's estimate vᵀ(∂ε/∂x)v, E[vvᵀ] = I (eq. 40).
"""

from dataclasses import dataclass

import torch
from scipy.interpolate import PchipInterpolator

__all__ = ["Clock", "Solved", "exact_divergence", "hutchinson", "log_prob"]


class Clock:
    """ᾱ(t) of a GaussianDiffusion at real t in [0, T]: a monotone cubic (PCHIP) through log ᾱ_t at every whole t, so
    that the marginals there are those of the chain, with a continuous rate β(t) = −d log ᾱ/dt in between."""

    def __init__(self, process):
        self.timesteps = process.timesteps
        self.log_alpha_bar = PchipInterpolator(range(process.timesteps + 1), process.alpha_bar.log().numpy())
        self.slope = self.log_alpha_bar.derivative()

    def alpha_bar(self, t):
        """A float, ᾱ(t)."""
        self._check(t)
        return torch.tensor(float(self.log_alpha_bar(t)), dtype=torch.float64).exp().item()

    def rate(self, t):
        """A float, β(t), per step."""
        self._check(t)
        return -float(self.slope(t))

    def _check(self, t):
        if not 0 <= t <= self.timesteps:
            raise ValueError(f"times lie in 0…{self.timesteps}, got {t}")


@dataclass(frozen=True)
class Solved:
    """log_prob [N] float64, nats; x_T [N, ...]; evaluations: of the network, a state."""

    log_prob: torch.Tensor
    x_T: torch.Tensor
    evaluations: int


def log_prob(eps, clock, x, start, divergence, tolerance):
    """``Solved``: log p of x [N, ...] as x_t at t = ``start``, by one solve from there to T (torchdiffeq's dopri5).

    eps(x, t) → ε_θ [N, ...], t a float; divergence(function, x) → (function(x), its divergence [N]), such as
    ``exact_divergence`` or ``hutchinson``; tolerance: of the solver, relative and absolute. ValueError for a start outside
    (0, T): at 0 the score of data on a lattice does not exist.
    """
    from torchdiffeq import odeint

    if not 0 < start < clock.timesteps:
        raise ValueError(f"the ODE starts between 0 and T = {clock.timesteps}, not at {start}")
    dims, count = x[0].numel(), 0

    def augmented(time, state):
        nonlocal count
        count += 1
        t = min(max(time.item(), start), float(clock.timesteps))
        rate, std = clock.rate(t), (1 - clock.alpha_bar(t)) ** 0.5
        value, trace = divergence(lambda y: eps(y, t), state[0])
        return -0.5 * rate * (state[0] - value / std), -0.5 * rate * (dims - trace.to(state[1]) / std)

    span = torch.tensor([start, clock.timesteps], dtype=torch.float64)
    state = (x, torch.zeros(len(x), dtype=x.dtype))
    with torch.no_grad():
        path, integral = odeint(augmented, state, span, rtol=tolerance, atol=tolerance, method="dopri5")
    x_T = path[-1]
    prior = -0.5 * (x_T.double().square() + torch.log(torch.tensor(2 * torch.pi))).flatten(1).sum(1)
    return Solved(prior + integral[-1].double(), x_T, count)


def exact_divergence(function, x):
    """(function(x) [N, ...], ∇·function [N]), by D backward passes side by side: D copies of each state, D its size."""
    dims = x[0].numel()
    with torch.enable_grad():
        copies = x.detach().repeat_interleave(dims, 0).requires_grad_()
        value = function(copies)
        units = torch.eye(dims, dtype=x.dtype).view(dims, *x.shape[1:]).repeat(len(x), *[1] * (x.ndim - 1))
        (rows,) = torch.autograd.grad(value, copies, units)
    return value.detach()[::dims], (rows * units).flatten(1).sum(1).view(len(x), dims).sum(1)


def hutchinson(generator, probes=1):
    """A divergence: the mean over ``probes`` of vᵀ(∂f/∂x)v, v of independent signs (Rademacher), which are drawn at the
    first call and then kept, so that what is solved is an ODE. Unbiased."""
    kept = {}

    def divergence(function, x):
        if not kept:
            signs = torch.randint(2, (probes, *x.shape), generator=generator)
            kept["signs"] = (2 * signs - 1).to(x.dtype)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = function(x)
            traces = [
                (torch.autograd.grad(value, x, v, retain_graph=True)[0] * v).flatten(1).sum(1)
                for v in kept["signs"]
            ]
        return value.detach(), torch.stack(traces).mean(0)

    return divergence
