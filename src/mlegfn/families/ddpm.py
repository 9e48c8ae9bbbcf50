"""Denoising diffusion in discrete time: P_B is a fixed noising, P_F a learned Gaussian a step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from mlegfn.diffusion.likelihood import prior_term
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion, normal_log_prob
from mlegfn.diffusion.schedules import betas
from mlegfn.diffusion.variances import analytic_log_variance
from mlegfn.families.shared.comparing import relative
from mlegfn.families.shared.diffusion.planar import Problem
from mlegfn.families.shared.family import Check, Family
from mlegfn.families.shared.fitting import log_weights, train
from mlegfn.networks.mlp import TimeMLP
from mlegfn.randomness import generator, seed_layers
from mlegfn.trajectory import score

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from torch import Tensor

    from mlegfn.families.shared.family import Fit, Settings

__all__ = ["DDPM", "exact_residuals", "sum_of_divergences", "trajectory_balance"]


class DDPM(Family):
    """P_B is x_t = √α_t x_{t−1} + √β_t ε, and P_F(x_{t−1}|x_t) = N(μ_θ(x_t, t), σ_θ(x_t, t)²) undoes it
    (Ho et al. 2020, arXiv 2006.11239), with learned variances between β̃_t and β_t (Nichol & Dhariwal 2021,
    arXiv 2102.09672).

    KL-trajectory balance, E_{P_B}[log P_B(τ|x) − log P_F(τ)], is −ELBO(x); the usual sum of KL divergences
    between q(x_{t−1}|x_t, x_0) and P_F is the same with x_{t−1} integrated out, given x_t. The exact reverse
    of Gaussian data balances in detail: F(x_t) P_F = F(x_{t−1}) P_B with F = q(x_t), so log w(τ) = log p(x)
    for every τ.
    """

    title = "Diffusion model, discrete time (DDPM)"
    order = 20
    policies = ("N(μ_θ(x_t, t), σ_θ(x_t, t)²), learned", "N(√α_t x_{t−1}, β_t I), fixed")
    deterministic = "neither"
    objective = "KL-TB = −ELBO, the sum of KL(q(x_{t−1}|x_t, x_0) ‖ P_F)"
    problem = "moons"
    data = "planar: moons"

    def __init__(self, network: TimeMLP, process: GaussianDiffusion) -> None:
        super().__init__()
        self.network = network
        self.model = DenoisingModel(network, process)
        self.timesteps, self.shape = process.timesteps, (2,)

    def log_prior(self, x_T: Tensor) -> Tensor:
        return self.model.log_prior(x_T)

    def log_pf(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.model.log_pf(x_prev, x_t, t)

    def log_pb(self, x_prev: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.model.log_pb(x_prev, x_t, t)

    def sample_pb(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        return self.model.sample_pb(x0, generator)

    @torch.no_grad()
    def sample_pf(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """With noise in the last step too, unlike the images' sampler, as ``log_pf`` has it."""
        dtype = self.network.exit.weight.dtype
        states = [torch.randn(shape, generator=generator, dtype=dtype)]
        for step in range(self.timesteps, 0, -1):
            t = torch.full((shape[0],), step)
            prediction = self.model.predict(states[-1], t)
            mean = self.model.process.reverse_mean(states[-1], t, prediction.eps)
            noise = torch.randn(shape, generator=generator, dtype=dtype)
            states.append(mean + (prediction.log_variance / 2).exp() * noise)
        return torch.stack(states[::-1])

    @classmethod
    def tiny(cls, dtype: torch.dtype = torch.float64, seed: int = 0) -> Self:
        """Near the reverse of N(0, 2² I), off by a random network."""
        process = GaussianDiffusion([0.4, 0.6, 0.8])
        with torch.random.fork_rng([]):
            seed_layers(seed, "ddpm", "tiny")
            network = TimeMLP(3, 8, 1, outputs=2).double()
            nn.init.normal_(network.exit.weight, std=0.05)
        with torch.no_grad():
            # What x_t says of ε: gain · x_t. The last row of ``time`` makes the gain, of 32 features.
            gain = process.noise_std[1:] / (1 + 3 * process.alpha_bar[1:])
            network.time.weight[-1] = torch.linalg.pinv(network.time_features) @ (
                gain - network.time.bias[-1]
            )
            network.exit.bias[2:] = 3.5  # wider than β_t, because data of more than unit variance are
        return cls(network.to(dtype), process)

    @classmethod
    def checks(cls, settings: Settings) -> list[Check]:
        model = cls.tiny()
        x0 = torch.tensor([[0.3, -1.2], [1.5, 0.4], [-2.5, 2.0]], dtype=torch.float64)
        bound, balance = sum_of_divergences(model, x0), trajectory_balance(model, x0)
        gradients = [
            torch.cat([g.flatten() for g in torch.autograd.grad(v.sum(), list(model.parameters()))])
            for v in (bound, balance)
        ]
        with torch.no_grad():
            drawn = -log_weights(model, x0, 4096, generator(0, "ddpm", "drawn"))
        errors = (drawn.mean(1) - bound).abs() / (drawn.std(1) / math.sqrt(drawn.shape[1]))
        detailed, whole = exact_residuals()
        return [
            # Both are sums of about 20 terms of a few nats; what remains is rounding.
            Check("KL-TB E[log P_B − log P_F], and −ELBO as a sum of KLs", relative(balance, bound), 1e-12),
            Check("their gradients", relative(*gradients), 1e-10),
            Check("log w of 4096 joint trajectories, and −ELBO", errors.max().item(), 4.0, "standard errors"),
            # log-densities of up to 100 nats in 20 steps, at 2e-16 each, and tables with small differences.
            Check("exact reverse of Gaussian data: DB residual of every step", detailed, 1e-11, "nats"),
            Check("exact reverse of Gaussian data: log w(τ) = log p(x) for every τ", whole, 1e-10, "nats"),
        ]

    @classmethod
    def fit(cls, settings: Settings, seed: int) -> Fit:
        problem = Problem.draw(cls.problem, settings, seed)
        process = GaussianDiffusion(betas(settings.timesteps, "cosine"))
        with torch.random.fork_rng([]):
            seed_layers(seed, "ddpm", "init")
            model = cls(TimeMLP(settings.timesteps, settings.hidden, 2, outputs=2), process)

        def loss(step: int) -> Tensor:
            draw = generator(seed, "ddpm", step)
            x0 = problem.batch(step, settings.batch)
            # Times spread evenly, with one random offset: uniform each, and less noise in the sum over t.
            even = (torch.arange(settings.batch) + torch.rand(1, generator=draw)) / settings.batch
            t = 1 + (settings.timesteps * even).long().clamp(max=settings.timesteps - 1)
            x_t = process.noise(x0, t, torch.randn(x0.shape, generator=draw))
            return settings.timesteps * model.model.bound_terms(x0, x_t, t).mean()

        train(model.parameters(), loss, settings, f"ddpm {seed}")
        return problem.fit(model, settings)


def plane(nodes: int) -> tuple[Tensor, Tensor]:
    """Gauss–Hermite quadrature of N(0, I) in the plane: z [nodes², 2], weights [nodes²]."""
    import numpy as np

    z, weight = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(nodes))
    weight = weight / weight.sum()
    return torch.cartesian_prod(z, z), torch.cartesian_prod(weight, weight).prod(1)


def quadrature(x0: Tensor, model: DDPM, nodes: int = 10) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """For each t: t, x_t [N·K, 2] by quadrature over q(x_t|x_0), x_0 repeated, and weights [K]."""
    z, weight = plane(nodes)
    start = x0.repeat_interleave(len(z), 0)
    for step in range(1, model.timesteps + 1):
        t = torch.full((len(start),), step)
        yield t, model.model.process.noise(start, t, z.repeat(len(x0), 1)), start, weight


def sum_of_divergences(model: DDPM, x0: Tensor) -> Tensor:
    """[N], nats: −ELBO as Ho et al. 2020, eq. 5: KLs in closed form given x_t, x_t by quadrature."""
    total = prior_term(model.model.process, x0)
    for t, x_t, start, weight in quadrature(x0, model):
        total = total + model.model.bound_terms(start, x_t, t).view(len(x0), -1) @ weight
    return total


def trajectory_balance(model: DDPM, x0: Tensor) -> Tensor:
    """[N], nats: E_{P_B}[log P_B(τ|x) − log P_F(τ)] from the pair's log-probabilities alone.

    x_{t−1} given x_t and x_0 by quadrature too. In it everything is quadratic, for which two nodes are exact;
    in x_t the nodes are those of ``sum_of_divergences``, so both see the same values of the network.
    """
    z, inner = plane(2)
    total = torch.zeros(len(x0), dtype=x0.dtype)
    for t, x_t, start, weight in quadrature(x0, model):
        mean, variance = model.model.process.posterior(start, x_t, t)
        x_prev = (mean[:, None] + variance.sqrt()[:, None] * z).flatten(0, 1)
        many = x_t.repeat_interleave(len(z), 0), t.repeat_interleave(len(z))
        step = (model.log_pb(x_prev, *many) - model.log_pf(x_prev, *many)).view(-1, len(z)) @ inner
        total = total + step.view(len(x0), -1) @ weight
    return total - model.log_prior(x_t).view(len(x0), -1) @ weight


def exact_residuals(
    mean: float = 0.7, std: float = 0.6, timesteps: int = 20, wrong: float = 1.0
) -> tuple[float, float]:
    """Largest |DB residual| and |log w(τ) − log p(x)|, nats, of the exact reverse of N(mean, std²).

    With the state flow F(x_t) = q(x_t), and as the prior of x_T; ε_θ, here E[ε|x_t], is multiplied by
    ``wrong``.
    """
    process = GaussianDiffusion(betas(timesteps, "cosine"))
    variance = process.alpha_bar * std**2 + process.noise_variance

    def network(x: Tensor, time: Tensor) -> Tensor:
        t = time + 1
        centred = x - process.table("sqrt_alpha_bar", t, x) * mean
        return wrong * process.table("noise_std", t, x) / variance[t, None] * centred

    errors = process.alpha_bar[1:] * std**2 / variance[1:]  # Var[ε|x_t]
    pair = DenoisingModel(network, process, analytic_log_variance(process, errors))
    x0 = mean + std * torch.randn(500, 1, generator=generator(0, "ddpm", "exact"), dtype=torch.float64)
    trajectory = score(pair, pair.sample_pb(x0, generator(1, "ddpm", "exact")))
    centres = process.sqrt_alpha_bar[:, None, None] * mean
    flow = normal_log_prob(
        (trajectory.states - centres).flatten(0, 1),
        x0.new_zeros(()),
        variance.log().repeat_interleave(500)[:, None],
    ).view(timesteps + 1, 500)
    detailed = flow[1:] + trajectory.log_pf - flow[:-1] - trajectory.log_pb
    whole = trajectory.log_w - trajectory.log_prior + flow[-1] - flow[0]
    return detailed.abs().max().item(), whole.abs().max().item()
