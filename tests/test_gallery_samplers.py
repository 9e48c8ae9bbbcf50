"""Samplers keep the conventions of our chain, and the probability flow's likelihood is that of exact densities."""

import math
from types import SimpleNamespace

import pytest
import torch

from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.gallery._likelihood.flow import Clock, exact_divergence, hutchinson, log_prob
from mlegfn.gallery._likelihood.mixture import eight_gaussians
from mlegfn.gallery._likelihood.solvers import SOLVERS, draw, scheduler
from mlegfn.randomness import generator

SIGMAS = 4.0  # of a fixed seed


@pytest.fixture(scope="module")
def process():
    return GaussianDiffusion(betas(1000))


@pytest.fixture(scope="module")
def clock(process):
    return Clock(process)


def normal(*shape, key):
    return torch.randn(shape, generator=generator(0, "test samplers", key), dtype=torch.float64)


@pytest.mark.parametrize("steps", [10, 50, 1000])
def test_ddim_with_full_noise_is_ancestral_sampling(steps, process):
    """DDIM's step at η = 1, noise 0 and 1: the mean and β̃_t of the respaced chain (Song et al. 2021, DDIM, §4.1).

    Times that are one off, another spacing, or another last step would give other numbers.
    """
    chain = process.respaced(steps)
    made = scheduler("ddim_1", process, steps)
    assert made.timesteps.tolist() == chain.network_times.flip(0).tolist()
    x, eps, unit = normal(1, 3, key="x"), normal(1, 3, key="eps"), torch.ones(1, 3, dtype=torch.float64)
    for t in {steps, steps // 2, 2, 1}:
        time = chain.network_times[t - 1]
        still, moved = (
            made.step(eps, time, x, eta=1.0, variance_noise=z * unit).prev_sample for z in (0.0, 1.0)
        )
        assert torch.allclose(still, chain.reverse_mean(x, t, eps), rtol=2e-4, atol=2e-4)  # float32 tables
        assert ((moved - still) ** 2).mean().item() == pytest.approx(
            chain.posterior_variance[t].item(), rel=2e-3, abs=1e-9
        )


def test_ddim_without_noise_is_the_flow(process):
    """η = 0: x̂_0 stays, and x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s) ε; no draw is made."""
    made = scheduler("ddim", process, 10)
    x, eps = normal(2, 3, key="x"), normal(2, 3, key="eps")
    found = made.step(eps, made.timesteps[3], x, eta=0.0).prev_sample
    t, s = (int(made.timesteps[k]) + 1 for k in (3, 4))
    assert torch.allclose(found, process.noise(process.predict_x0(x, t, eps), s, eps), rtol=1e-4, atol=1e-4)


def test_every_solver_draws_the_mixture(process):
    """From a perfect network, with 50 evaluations, and never more: the mean log-density is that of the data."""
    data, alpha_bar = eight_gaussians(), Clock(process).alpha_bar
    seen = []

    def network(x, time):
        seen.append(len(x))
        return data.eps(x, alpha_bar(time[0].item() + 1)).to(x.dtype)

    wanted = data.log_prob(data.sample(20_000, generator(0, "data"))).mean().item()
    for name in SOLVERS:
        seen.clear()
        x, spent = draw(name, network, process, (400, 2), 50, generator(0, "draw"))
        assert spent == len(seen) and 48 < spent <= 50
        assert data.log_prob(x.double()).mean().item() == pytest.approx(wanted, abs=0.4), name
        assert torch.histc(torch.atan2(x[:, 1], x[:, 0]).float(), 8).min() > 20  # no mode is lost
        again, _ = draw(name, network, process, (400, 2), 50, generator(0, "draw"))
        assert torch.equal(x, again)


def test_steps_that_do_not_divide_the_chain_are_refused(process):
    with pytest.raises(ValueError, match="30 steps do not divide T = 1000"):
        scheduler("ddim", process, 30)


def test_the_clock_is_the_chain_at_whole_times(process, clock):
    assert all(clock.alpha_bar(t) == pytest.approx(process.alpha_bar[t].item()) for t in (0, 1, 2, 500, 1000))
    t, h = 321.4, 1e-3
    slope = (math.log(clock.alpha_bar(t + h)) - math.log(clock.alpha_bar(t - h))) / (2 * h)
    assert clock.rate(t) == pytest.approx(-slope, rel=1e-5)
    with pytest.raises(ValueError, match="0…1000"):
        clock.alpha_bar(1000.5)


@pytest.mark.parametrize("start", [1, 100])
def test_the_flows_likelihood_is_the_exact_density(start, process, clock):
    """With the mixture's own score: within 1e-3 nats. A divergence of the wrong sign, or without its factor ½, or a prior
    other than N(0, I) is off by nats."""
    data = eight_gaussians()
    x = process.noise(data.sample(40, generator(0, "data")), start, normal(40, 2, key="start"))
    found = log_prob(
        lambda y, t: data.eps(y, clock.alpha_bar(t)), clock, x, float(start), exact_divergence, 1e-6
    )
    exact = data.log_prob(x, process.alpha_bar[start].item())
    assert (found.log_prob - exact).abs().max() < 1e-3
    assert found.x_T.square().mean().item() == pytest.approx(1, abs=0.4)


def test_divergences_of_a_known_function():
    """f(x) = sin(x A) + x₀² e: its trace by hand; Hutchinson's mean is that, and one probe is kept for a whole solve."""
    matrix, x = normal(4, 4, key="matrix"), normal(3, 2, 2, key="x")

    def function(y):
        flat = y.flatten(1)
        return ((flat @ matrix).sin() + flat[:, :1] ** 2).view_as(y)

    flat = x.flatten(1)
    trace = ((flat @ matrix).cos() * matrix.diagonal()).sum(1) + 2 * flat[:, 0]
    value, exact = exact_divergence(function, x)
    assert torch.allclose(value, function(x)) and torch.allclose(exact, trace)
    probes = 2000
    draws = torch.stack(
        [hutchinson(generator(0, "probe", k), probes=4)(function, x)[1] for k in range(probes // 4)]
    )
    z = (draws.mean(0) - trace) / (draws.std(0) / len(draws) ** 0.5)
    assert z.abs().max() < SIGMAS and draws.std(0).min() > 0.1
    estimate = hutchinson(generator(0, "probe"))
    assert torch.equal(estimate(function, x)[1], estimate(function, x)[1])


def test_the_flow_starts_inside_the_chain(clock):
    with pytest.raises(ValueError, match="not at 0"):
        log_prob(lambda y, t: y, clock, torch.zeros(1, 2), 0, exact_divergence, 1e-3)


def test_the_chains_bound_and_the_flow_bound_one_number(monkeypatch):
    """On data of a single Gaussian with its perfect network, bound and flow agree up to T's discretisation: if the terms
    before the ODE's start were left out, or q's own density, they would differ by whole nats."""
    from mlegfn.gallery import samplers

    process, variance = GaussianDiffusion(betas(1000)), 0.2
    slope = process.noise_std / (process.alpha_bar * variance + process.noise_variance)
    clock = Clock(process)

    def network(x, time):
        levels = torch.tensor([clock.alpha_bar(t) for t in (time.double() + 1).tolist()])
        gain = (1 - levels).sqrt() / (levels * variance + 1 - levels)
        return gain.to(x.dtype).view(-1, 1, 1, 1) * x

    assert torch.allclose(network(torch.ones(1, 1, 1, 1), torch.tensor([499])).double(), slope[500])
    x = (variance**0.5 * normal(12, 1, 2, 2, key="pixels")).clamp(-1, 1)
    images = SimpleNamespace(levels=256, test_images=((x + 1) * 127.5).round().to(torch.uint8))
    images.train_images = images.test_images
    settings = SimpleNamespace(
        images=12, exact_images=4, start=20, seeds=[0], variance_images=12, tolerance=1e-5, probes=1
    )
    bits = samplers.likelihoods(network, process, settings, images)
    # One draw of x_s for the flow, one of every x_t for the bound: images differ, means do not.
    error = (bits.flow - bits.bound).std() / 12**0.5
    assert abs((bits.flow - bits.bound).mean()) < SIGMAS * error + 0.05
    # The network is linear, so one probe gives its trace exactly.
    assert torch.allclose(bits.flow[:4], bits.exact, atol=1e-3)
