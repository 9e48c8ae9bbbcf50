"""Annealed importance sampling of log p(x_0), from the noising posterior to the model, over whole noising paths."""

from dataclasses import dataclass

import torch

__all__ = ["Annealed", "anneal", "hmc", "log_weight_of", "noise_path"]


@dataclass
class Annealed:
    """One annealing of each of N data, float64.

    log_w [N]: log ŵ; path [K, N]: log w(ε_{k−1}), whose mean rises from the bound at β = 0 along the annealing and
    whose integral over β is log p(x_0); acceptance [K − 1] of its transitions; gradients: of log w, a datum.
    """

    log_w: torch.Tensor
    path: torch.Tensor
    acceptance: torch.Tensor
    gradients: int


def noise_path(process, x0, noise):
    """[T+1, N, ...]: x_t = √α_t x_{t−1} + √β_t ε_t, differentiable in the noise [T, N, ...]."""
    states = [x0]
    for t in range(1, process.timesteps + 1):
        states.append(
            process.table("sqrt_alpha", t, x0) * states[-1] + process.table("sqrt_beta", t, x0) * noise[t - 1]
        )
    return torch.stack(states)


def log_weight_of(model, x0):
    """The function noise [T, N, ...] → log w(τ) [N] float64, τ the path that it drives from x0 [N, ...].

    log w(τ) = log p(x_{0:T}) − log q(x_{1:T} | x_0); its mean is the bound, and E[w] = p(x_0) (Sohl-Dickstein et al.
    2015, arXiv 1503.03585, eq. 9).
    """
    times = torch.arange(1, model.timesteps + 1).repeat_interleave(len(x0))

    def log_w(noise):
        states = noise_path(model.process, x0, noise)
        before, after = states[:-1].flatten(0, 1), states[1:].flatten(0, 1)
        steps = model.log_pf(before, after, times).double() - model.log_pb(before, after, times).double()
        return model.log_prior(states[-1]).double() + steps.view(model.timesteps, -1).sum(0)

    return log_w


def anneal(log_w, noise, betas, step, leapfrogs, generator):
    """``Annealed``: Neal 2001 (Statistics and Computing 11, eq. 3–4), along π_β ∝ q(τ|x_0)^{1−β} p(τ, x_0)^β.

    In the noise that drives a path, q is N(0, I) and π_β ∝ N(ε; 0, I) w(ε)^β. From ε_0 ~ q,

        log ŵ = Σ_k (β_k − β_{k−1}) log w(ε_{k−1}),   ε_k ~ a transition that leaves π_{β_k} alone.

    E[ŵ] = p(x_0) for every schedule and every such transition, so E[log ŵ] ≤ log p(x_0); with one increment it is the
    bound. log_w: noise [T, N, ...] → [N]; noise: ε_0; betas [K]: rising, the last is 1; step: the angle of a leapfrog
    step, a number or one for each of the K − 1 transitions, which must not depend on the noise or the estimate is biased.
    ValueError for betas that do not rise to 1.
    """
    betas = torch.as_tensor(betas, dtype=torch.float64)
    if (
        betas.ndim != 1
        or len(betas) < 1
        or betas[-1] != 1
        or not (betas.diff(prepend=betas.new_zeros(1)) > 0).all()
    ):
        raise ValueError("the inverse temperatures must rise from above 0 to 1")
    steps = torch.as_tensor(step, dtype=torch.float64).expand(max(len(betas) - 1, 1))
    path, acceptance = [], []
    point = differentiated(log_w, noise)
    for k, beta in enumerate(betas.tolist()):
        path.append(point[1])
        if k < len(betas) - 1:
            point, accepted = hmc(log_w, point, beta, steps[k].item(), leapfrogs, generator)
            acceptance.append(accepted)
    path = torch.stack(path)
    total = betas.diff(prepend=betas.new_zeros(1)) @ path
    return Annealed(total, path, torch.tensor(acceptance), 1 + (len(betas) - 1) * leapfrogs)


def differentiated(log_w, noise):
    """(noise, log w [N], ∂log w/∂noise), all without history."""
    with torch.enable_grad():
        noise = noise.detach().requires_grad_()
        value = log_w(noise)
        (slope,) = torch.autograd.grad(value.sum(), noise)
    return noise.detach(), value.detach(), slope


def hmc(log_w, point, beta, step, leapfrogs, generator):
    """One transition of Hamiltonian Monte Carlo that leaves N(ε; 0, I) w(ε)^β alone: (point, share of accepted).

    H = ½‖ε‖² + ½‖p‖² − β log w(ε). A step kicks p by β ∇ log w and turns (ε, p), which solves the Gaussian part
    exactly (Neal 2011, MCMC using Hamiltonian dynamics, §5.5.1), so the error, and what is rejected, comes from w alone.
    point: (noise [T, N, ...], log w [N], its gradient), as ``differentiated`` gives it; N chains side by side.
    """
    noise, value, slope = point
    momentum = torch.randn(noise.shape, generator=generator, dtype=noise.dtype)
    uniform = torch.rand(len(value), generator=generator, dtype=torch.float64)
    start = energy(noise, momentum, value, beta)
    c, s = torch.cos(torch.tensor(step)).item(), torch.sin(torch.tensor(step)).item()
    new = point
    for _ in range(leapfrogs):
        momentum = momentum + step / 2 * beta * new[2]
        turned, momentum = c * new[0] + s * momentum, c * momentum - s * new[0]
        new = differentiated(log_w, turned)
        momentum = momentum + step / 2 * beta * new[2]
    gain = start - energy(new[0], momentum, new[1], beta)
    # A comparison with NaN is false: a proposal whose energy is not finite is rejected.
    accept = uniform.log() < gain
    wide = accept.view(1, -1, *[1] * (noise.ndim - 2))
    return (
        torch.where(wide, new[0], noise),
        torch.where(accept, new[1], value),
        torch.where(wide, new[2], slope),
    ), accept.double().mean().item()


def energy(noise, momentum, value, beta):
    """[N] float64: H, up to a constant."""
    kinetic = (noise.double().square() + momentum.double().square()).sum(0).flatten(1).sum(1)
    return 0.5 * kinetic - beta * value
