"""Annealed importance sampling: unbiased where p(x_0) is exact, and wrong as soon as a part of it is."""

import math

import pytest
import torch

from mlegfn.diffusion.importance import log_weights
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.randomness import generator
from reproduction.gallery.likelihood import annealed as module
from reproduction.gallery.likelihood.annealed import anneal, differentiated, hmc, log_weight_of, noise_path
from reproduction.gallery.likelihood.linear import linear_log_prob, linear_model
from reproduction.gallery.likelihood.mixture import GaussianMixture, eight_gaussians
from reproduction.gallery.likelihood.quadrature import log_prob_by_quadrature

T, CHAINS = 5, 4000
SIGMAS = 4.0  # of a fixed seed


@pytest.fixture(scope="module")
def model():
    """A chain with variances that are far from the perfect ones, so that log w has a spread of a nat or so."""
    return linear_model(GaussianDiffusion(betas(T, "linear", 0.1, 0.6)), 0.25, "large")


@pytest.fixture(scope="module")
def x():
    return torch.tensor([[0.9, -0.4]], dtype=torch.float64).repeat(CHAINS, 1)


def normal(*shape, key):
    return torch.randn(shape, generator=generator(0, "test annealing", key), dtype=torch.float64)


def annealed(model, x, count=4, step=1.2, leapfrogs=2, key="annealed"):
    """Steps so long that a good part of the proposals is rejected: whether they are rejected rightly then matters."""
    return anneal(
        log_weight_of(model, x),
        normal(T, *x.shape, key=key),
        torch.arange(1, count + 1) / count,
        step,
        leapfrogs,
        generator(0, "test annealing", "hmc"),
    )


def z_of_ratio(result, exact):
    """How many standard errors the mean of ŵ/p is from 1."""
    ratio = (result.log_w - exact).exp()
    return ((ratio.mean() - 1) / (ratio.std() / len(ratio) ** 0.5)).item()


def test_log_w_is_that_of_the_library(model, x):
    """The same noise, through importance.log_weights: a missing term or a path of its own would differ."""
    few = x[:7]
    noise = torch.randn(T, *few.shape, generator=generator("key", 0), dtype=few.dtype)
    ours = log_weight_of(model, few)(noise)
    assert torch.allclose(ours, log_weights(model, few, [0], ("key",))[:, 0], atol=1e-10)
    assert torch.equal(noise_path(model.process, few, noise), model.process.trajectory_of(few, noise))


def test_the_linear_chain_is_what_it_samples(model):
    """Its exact density, against the variance of ancestral samples with the noise of the last step."""
    states = model.sample_pf((200_000, 1), generator(0, "linear"))
    variance = states[0].var().item() + model.log_variance[1].exp().item()  # the sampler leaves it out
    x = torch.tensor([[0.3]], dtype=torch.float64)
    expected = -0.5 * (0.09 / variance + math.log(2 * math.pi * variance))
    assert linear_log_prob(model, x).item() == pytest.approx(expected, abs=0.01)


def test_annealing_is_unbiased_for_the_exact_likelihood(model, x):
    exact = linear_log_prob(model, x[:1]).item()
    result = annealed(model, x)
    assert 0.95 > result.acceptance.min() > 0.5  # or rejection would not be tested
    assert abs(z_of_ratio(result, exact)) < SIGMAS


def test_annealing_is_tighter_than_the_bound_and_more_is_better(model, x):
    exact = linear_log_prob(model, x[:1]).item()
    gaps = [exact - annealed(model, x[:1000], count, 0.5, 3).log_w.mean().item() for count in (1, 4, 16)]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


def test_one_temperature_is_the_bound(model, x):
    noise = normal(T, *x[:5].shape, key="one")
    log_w = log_weight_of(model, x[:5])
    result = anneal(log_w, noise, [1.0], 0.5, 1, generator(0))
    assert torch.equal(result.log_w, log_w(noise)) and result.gradients == 1 and len(result.acceptance) == 0


def test_a_proposal_that_is_never_rejected_is_biased(model, x, monkeypatch):
    """Metropolis' test matters at these steps: without it the unbiased estimate is off by many standard errors."""
    exact = linear_log_prob(model, x[:1]).item()
    monkeypatch.setattr(module, "energy", lambda noise, momentum, value, beta: torch.zeros_like(value))
    assert abs(z_of_ratio(annealed(model, x, count=8), exact)) > 2 * SIGMAS


def test_weights_of_the_wrong_temperatures_are_biased(model, x):
    """log ŵ with β_k where β_k − β_{k−1} belongs, from the very path: the test above would see it."""
    exact = linear_log_prob(model, x[:1]).item()
    result = annealed(model, x)
    result.log_w = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64) @ result.path
    assert abs(z_of_ratio(result, exact)) > 2 * SIGMAS


def test_transitions_leave_their_law_alone(model, x):
    """Started from π_β itself, Gaussian here, a transition must end there: mean and covariance of the noise.

    log w is a quadratic form of the noise; its coefficients come from autograd, and π_β from them.
    """
    beta, log_w = 0.7, log_weight_of(model, x[:1, :1])
    zero = torch.zeros(T, 1, 1, dtype=torch.float64)
    curvature = torch.autograd.functional.hessian(lambda e: log_w(e).sum(), zero).view(T, T)
    slope = differentiated(log_w, zero)[2].view(T)
    covariance = torch.linalg.inv(torch.eye(T) - beta * curvature)
    mean = covariance @ (beta * slope)
    start = mean + normal(CHAINS, T, key="start") @ torch.linalg.cholesky(covariance).T
    log_w = log_weight_of(model, x[:, :1])
    point = differentiated(log_w, start.T[..., None].contiguous())
    for k in range(3):
        point, accepted = hmc(log_w, point, beta, 1.2, 2, generator(k, "test annealing", "law"))
    assert accepted < 0.97
    end = point[0][..., 0].T
    spread = covariance.diagonal()
    assert ((end.mean(0) - mean) / (spread / CHAINS).sqrt()).abs().max() < SIGMAS
    scale = torch.outer(spread, spread).add(covariance.square()).div(CHAINS).sqrt()
    assert ((end.T.cov() - covariance) / scale).abs().max() < SIGMAS


def test_at_temperature_zero_nothing_is_rejected(model, x):
    """The Gaussian part is solved exactly: with β = 0 energy is kept to rounding, whatever the step."""
    log_w = log_weight_of(model, x[:50])
    point = differentiated(log_w, normal(T, 50, 2, key="zero"))
    assert hmc(log_w, point, 0.0, 2.5, 3, generator(0))[1] == 1.0


@pytest.mark.parametrize("wrong", [[], [0.5], [0.5, 0.5, 1.0], [0.0, 1.0], [[1.0]]])
def test_temperatures_that_do_not_rise_to_one_are_refused(wrong, model, x):
    with pytest.raises(ValueError, match="rise from above 0 to 1"):
        anneal(log_weight_of(model, x), normal(T, *x.shape, key="no"), wrong, 0.5, 1, generator(0))


def test_quadrature_of_a_linear_chain_is_exact(model, x):
    points = torch.tensor([[0.9, -0.4], [0.0, 0.0], [-1.5, 1.0]], dtype=torch.float64)
    result = log_prob_by_quadrature(model, points, 6.0, 121)
    assert torch.allclose(result, linear_log_prob(model, points), atol=1e-8)
    with pytest.raises(ValueError, match="too wide"):
        log_prob_by_quadrature(model, points, 6.0, 11)


def test_the_mixtures_noise_is_its_score():
    """E[ε | x_t] = −√(1 − ᾱ) ∇ log p_t: the closed form against autograd of the density, at several ᾱ at once."""
    mixture = GaussianMixture(torch.tensor([[1.0, 0.0], [-0.5, 2.0]], dtype=torch.float64), 0.3)
    x = normal(6, 2, key="score").requires_grad_()
    alpha_bar = torch.tensor([0.99, 0.9, 0.5, 0.5, 0.1, 0.01], dtype=torch.float64)
    (score,) = torch.autograd.grad(mixture.log_prob(x, alpha_bar).sum(), x)
    assert torch.allclose(mixture.eps(x, alpha_bar), -(1 - alpha_bar).sqrt()[:, None] * score, atol=1e-10)
    with pytest.raises(ValueError, match="std > 0"):
        GaussianMixture(torch.zeros(2, 2), 0.0)


def test_eight_gaussians_have_unit_variance():
    drawn = eight_gaussians().sample(50_000, generator(0, "eight"))
    assert torch.allclose(drawn.T.cov(), torch.eye(2, dtype=drawn.dtype), atol=0.02)
    assert eight_gaussians().log_prob(drawn).mean() > -1.5  # as narrow as they are
