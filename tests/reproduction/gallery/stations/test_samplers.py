"""Samplers keep the conventions of our chain, and the probability flow's likelihood is that of exact densities."""

import math
from types import SimpleNamespace

import pytest
import torch

from mlegfn.data import scale_to_unit
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.randomness import generator
from reproduction.gallery.likelihood.flow import Clock, exact_divergence, hutchinson, log_prob
from reproduction.gallery.likelihood.mixture import eight_gaussians
from reproduction.gallery.likelihood.solvers import SOLVERS, draw, scheduler
from reproduction.gallery.stations import samplers
from reproduction.gallery.stations.samplers import dequantise

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
    result = made.step(eps, made.timesteps[3], x, eta=0.0).prev_sample
    t, s = (int(made.timesteps[k]) + 1 for k in (3, 4))
    assert torch.allclose(result, process.noise(process.predict_x0(x, t, eps), s, eps), rtol=1e-4, atol=1e-4)


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
    result = log_prob(
        lambda y, t: data.eps(y, clock.alpha_bar(t)), clock, x, float(start), exact_divergence, 1e-6
    )
    exact = data.log_prob(x, process.alpha_bar[start].item())
    assert (result.log_prob - exact).abs().max() < 1e-3
    assert result.x_T.square().mean().item() == pytest.approx(1, abs=0.4)


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


def test_dequantised_images_lie_in_their_bins(process):
    """Rounded, y is the image again; its noise has the spread of the noise at the time it enters."""
    x0 = torch.randint(0, 5, (500, 1, 2, 2), generator=generator(0, "levels")) / 2.0 - 1
    result = dequantise(process, x0, 5, generator(0, "uniform"))
    scale = process.sqrt_alpha_bar[result.start].item()
    noise = result.y - scale * x0
    assert torch.equal((2 * result.y / scale).round() / 2, x0)
    assert noise.std().item() == pytest.approx(process.noise_std[result.start].item(), rel=0.05)
    before = result.start - 1  # narrower than the noise of a bin still
    assert process.noise_std[before] < 0.25 / 3**0.5 * process.sqrt_alpha_bar[before]
    assert result.log_volume == pytest.approx(4 * math.log(0.5 * scale))
    with pytest.raises(ValueError, match="noise of a bin"):
        dequantise(GaussianDiffusion([1e-6, 1e-6]), x0, 5, generator(0))


def test_flow_and_chain_measure_one_density():
    """Pixels of one Gaussian and its perfect network: p(x_s) is N(0, (ᾱ_s v + 1 − ᾱ_s) I), so bits/dim of the dequantised
    images are known. The flow has them but for its solver, the chain's bound but for its steps. Forgotten: the bin's volume
    (nats a pixel), q's or the prior's density, the scale √ᾱ_s, or the offset of one between t and the network's time."""
    process, variance = GaussianDiffusion(betas(1000)), 0.2
    clock = Clock(process)

    def network(x, time):
        times, row = (time.double() + 1).unique(return_inverse=True)
        alpha_bar = torch.tensor([clock.alpha_bar(t) for t in times.tolist()])
        gain = (1 - alpha_bar).sqrt() / (alpha_bar * variance + 1 - alpha_bar)
        return gain.to(x.dtype)[row].view(-1, 1, 1, 1) * x

    x = (variance**0.5 * normal(6, 1, 2, 2, key="pixels")).clamp(-1, 1)
    images = SimpleNamespace(levels=17, test_images=((x + 1) * 8).round().to(torch.uint8))
    images.train_images = images.test_images
    settings = SimpleNamespace(
        images=6, exact_images=3, seeds=[0], variance_images=6, tolerance=1e-5, probes=1
    )
    result = samplers.likelihoods(network, process, settings, images)
    x0 = scale_to_unit(images.test_images, 17)
    y = dequantise(process, x0, 17, generator(0, "gallery", "dequantised"))
    alpha_bar = process.alpha_bar[y.start].item()
    v = alpha_bar * variance + 1 - alpha_bar
    nll = 0.5 * (y.y.double().square() / v + math.log(2 * math.pi * v)).flatten(1).sum(1)
    exact = (nll - 4 * math.log(alpha_bar**0.5 / 8)) / (4 * math.log(2))
    assert torch.allclose(result.flow, exact, atol=2e-3)
    assert torch.allclose(result.exact, result.flow[:3], atol=1e-4)  # a linear network: one probe is exact
    assert (
        result.chain - exact
    ).abs().max() < 0.3  # of one path; with β̃_t its spread is several times as large


def test_hutchinsons_error_is_of_the_images_that_both_measure():
    """Its standard error is that of the paired differences of few images, so their number goes with it."""
    names = ("small", "bound", "chain", "chain_small", "flow")
    bits = SimpleNamespace(**{name: 3 + normal(8, key=name) for name in names})
    bits.exact = bits.flow[:3] - torch.tensor([0.01, 0.02, 0.06])
    quantity = samplers.compared(bits)["hutchinson_less_exact"]
    assert quantity.values == pytest.approx([0.03]) and quantity.unit == "bits/dim"
    assert (quantity.standard_error, quantity.count) == (pytest.approx((0.0007 / 3) ** 0.5), 3)
