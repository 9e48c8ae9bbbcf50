"""Algorithms 1 and 2: as short as in the notes, and right on models whose answer is known."""

import inspect
import math

import pytest
import torch
from helpers.gallery_images import process

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.diffusion.variances import fixed_log_variance
from reproduction.gallery.images.gaussian import gaussian_model
from reproduction.gallery.stations import algorithms


@pytest.mark.parametrize("function", [algorithms.algorithm_1, algorithms.algorithm_2])
def test_each_algorithm_is_as_short_as_in_the_notes(function):
    assert len(inspect.getsource(function).splitlines()) <= 30


def constant(value):
    """The model whose network says ``value`` of every pixel, whatever it sees."""
    chain = process()
    return DenoisingModel(
        lambda x, time: torch.full_like(x, value), chain, fixed_log_variance(chain, "small")
    )


def test_the_loss_of_a_constant_is_one_plus_its_square():
    """E‖ε − c‖² = 1 + c² a pixel. A loss that sums over pixels, or that compares with x_0, is far from it."""
    loss = algorithms.algorithm_1(constant(2.0), torch.zeros(5, 1, 8, 8), batch=64, seed=0)
    values = torch.stack([loss(step) for step in range(40)])
    assert values.mean().item() == pytest.approx(5.0, abs=5 * values.std().item() / 40**0.5)
    assert values.std() > 0  # fresh noise at every step


def test_the_loss_vanishes_for_the_network_that_knows_the_image():
    """With one image x_0 in the data, ε = (x_t − √ᾱ_t x_0)/√(1 − ᾱ_t): zero loss needs the same t, 1…T, in x_t and in
    what the network is told; a time that is off by one leaves an error."""
    chain, image = process(), torch.linspace(-1, 1, 64, dtype=torch.float64).view(1, 1, 8, 8)
    seen = set()

    def network(x, time):
        seen.update(time.tolist())
        return chain.noise_of(image.expand_as(x), x, time + 1)

    model = DenoisingModel(network, chain, fixed_log_variance(chain, "small"))
    loss = algorithms.algorithm_1(model, image, batch=32, seed=1)
    assert max(loss(step).item() for step in range(20)) < 1e-8
    assert seen == set(range(20))  # every time, and none outside


def test_the_loss_is_a_function_of_seed_and_step_alone():
    first, second = (
        algorithms.algorithm_1(constant(0.0), torch.zeros(5, 1, 8, 8), 8, seed) for seed in (0, 1)
    )
    assert first(3) == first(3)
    assert first(3) != first(4)
    assert first(3) != second(3)


def test_a_step_of_sampling_has_the_mean_of_the_posterior():
    """With ε that points to a known x_0, Algorithm 2's step is q(x_t−1|x_t, x_0). A prefactor of √α_t instead of
    1/√α_t, or the x_t coefficient without √α_t, both misprints of the notes, give another mean."""
    chain, x_0 = process(), torch.full((4, 1, 8, 8), 0.3)
    states = []

    def network(x, time):
        states.append((x.clone(), int(time[0]) + 1))
        return chain.noise_of(x_0, x, time + 1)

    silent = torch.full((21,), -math.inf, dtype=torch.float64)  # σ_t = 0: what is left is the mean
    end = algorithms.algorithm_2(DenoisingModel(network, chain, silent), (4, 1, 8, 8), seed=0)
    assert [t for _, t in states] == list(range(20, 0, -1))
    for (x_t, t), after in zip(states, [x for x, _ in states[1:]] + [end], strict=True):
        mean, _ = chain.posterior(x_0, x_t, t)
        torch.testing.assert_close(after, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(end, x_0, rtol=1e-4, atol=1e-4)


def test_sampling_a_gaussian_gives_its_mean_and_covariance():
    """Exact ε of N(m, Σ): samples have that mean and covariance, but for the chain's step size. Noise added with
    variance σ_t instead of σ_t², or noise at the last step, is outside."""
    chain = GaussianDiffusion(betas(400, "linear", 2.5e-4, 0.05))
    covariance = torch.tensor([[0.8, 0.3], [0.3, 0.5]])
    mean = torch.tensor([0.6, -0.4])
    model = gaussian_model(chain, covariance, mean)
    x = algorithms.algorithm_2(model, (20000, 1, 1, 2), seed=3).flatten(1).double()
    assert (x.mean(0) - mean).abs().max() < 5 * (0.8 / 20000) ** 0.5
    assert (x.T.cov() - covariance).abs().max() < 0.03


def test_the_exact_network_of_a_gaussian_is_the_regression_of_its_noise():
    """ε* minimises E‖ε − f(x_t)‖², so ε − ε* is uncorrelated with x_t; and it refuses what is no covariance."""
    chain, covariance = process(), torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    x_0 = torch.randn(40000, 2, generator=draw, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    eps = torch.randn(x_0.shape, generator=draw, dtype=torch.float64)
    x_t = chain.noise(x_0, 6, eps)
    left = eps - gaussian_model(chain, covariance).predict(x_t, torch.full((len(x_t),), 6)).eps
    assert (left.T @ x_t / len(x_t)).abs().max() < 0.03
    with pytest.raises(ValueError, match="symmetric"):
        gaussian_model(chain, torch.tensor([[1.0, 0.5], [0.2, 1.0]]))
    with pytest.raises(ValueError, match="eigenvalue"):
        gaussian_model(chain, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))


def test_distances_are_ratios_of_equal_parts():
    """Samples that are test images are at distance zero in every part; noise as samples has a ratio of about one."""
    from types import SimpleNamespace

    draw = torch.Generator().manual_seed(0)
    settings = SimpleNamespace(seed=0, samples=80, parts=4, projections=20)
    train, test = torch.rand(200, 1, 4, 4, generator=draw) - 1, torch.rand(80, 1, 4, 4, generator=draw) - 1
    noise = torch.randn(80, 1, 4, 4, generator=draw).clamp(-1, 1)
    result = algorithms.compared(noise, train, test, settings)
    assert result["against_noise"].values[0] == pytest.approx(1, abs=0.2)
    assert result["against_floor"].values[0] > 2
    fresh = algorithms.compared(torch.rand(80, 1, 4, 4, generator=draw) - 1, train, test, settings)
    assert fresh["against_floor"].values[0] == pytest.approx(1, abs=0.3)
    assert fresh["against_noise"].values[0] < 0.5
