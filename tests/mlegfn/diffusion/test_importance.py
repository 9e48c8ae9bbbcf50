"""Importance-weighted likelihoods against exact densities."""

import math

import pytest
import torch
from helpers.exact import exact_gaussian, gaussian_log_prob, linear_process

from mlegfn.diffusion.importance import log_likelihood, log_weights, precise_log_weights
from mlegfn.randomness import generator


def draws(count, dims=2, scale=1.0, key="points"):
    return scale * torch.randn(count, dims, generator=generator(0, key), dtype=torch.float64)


def skewed(spread, points=400, seed=0):
    """rounds → log-weights N(−spread²/2, spread²) of points whose log p is 0, so E[w] = 1."""

    def draw(rounds):
        noise = [torch.randn(points, generator=generator(seed, r), dtype=torch.float64) for r in rounds]
        return spread * torch.stack(noise, 1) - spread**2 / 2

    return draw


def test_an_exact_model_gives_its_log_density_from_any_trajectory():
    variance = 0.3
    model = exact_gaussian(linear_process(1000), variance)
    x = draws(20, scale=variance**0.5)
    log_w = log_weights(model, x, range(4), ("exact",))
    exact = gaussian_log_prob(x, variance).sum(1)
    assert (log_w - exact[:, None]).abs().max() < 2e-4
    measured = log_likelihood(log_w)
    assert measured.nll == pytest.approx(-exact.mean().item(), abs=1e-4)
    assert measured.standard_error < 1e-4 and measured.bias < 1e-6


def test_a_model_that_is_wrong_on_purpose_is_integrated_to_its_own_density():
    """Reverse variances a third too large: p is still a Gaussian, whose variance a recursion gives."""
    process = linear_process(50)
    model = exact_gaussian(process, 0.3)
    model.log_variance = model.log_variance + math.log(1.3)
    mean_of_x0, variance = 0.0, torch.ones((), dtype=torch.float64)
    for t in range(50, 0, -1):
        step, one = torch.tensor([t]), torch.ones(1, 1, dtype=torch.float64)
        slope = process.reverse_mean(one, step, model.predict(one, step).eps).item()
        variance = slope**2 * variance + model.log_variance[t].exp()
    x = draws(200, dims=1, scale=0.5)
    measured = log_likelihood(log_weights(model, x, range(256), ("wrong",)))
    exact = -gaussian_log_prob(x - mean_of_x0, variance).mean().item()
    assert measured.elbo > exact + 0.05  # so that this tests the weighting and not the bound
    assert measured.nll == pytest.approx(exact, abs=4 * measured.standard_error + 2 * measured.bias)


def test_standard_error_and_bias_are_those_of_repeated_estimates():
    repeats = [log_likelihood(skewed(1.0, points=200, seed=s)(range(64))) for s in range(60)]
    nll = torch.tensor([r.nll for r in repeats])
    assert torch.tensor([r.standard_error for r in repeats]).mean() == pytest.approx(
        nll.std().item(), rel=0.25
    )
    assert torch.tensor([r.bias for r in repeats]).mean() == pytest.approx(nll.mean().item(), rel=0.25)


def test_trajectories_double_until_error_and_bias_are_small_for_every_model():
    found = precise_log_weights({"easy": skewed(0.1), "hard": skewed(0.8)}, 4, 4096, 0.01)
    count = found["hard"].shape[1]
    assert found["easy"].shape == found["hard"].shape  # one M for both
    hard = log_likelihood(found["hard"])
    assert hard.standard_error < 0.01 and hard.bias < 0.01
    before = log_likelihood(found["hard"][:, : count // 2])
    assert max(before.standard_error, before.bias) >= 0.01 and count > 4  # no more than was needed
    assert torch.equal(found["hard"], skewed(0.8)(range(count)))  # earlier draws were kept
    assert precise_log_weights({"hard": skewed(2.0)}, 4, 31, 0.01)["hard"].shape[1] == 16


@pytest.mark.parametrize("call", [
    lambda: log_likelihood(torch.zeros(1, 4)),
    lambda: log_likelihood(torch.zeros(5, 3)),
    lambda: log_likelihood(torch.full((5, 4), math.nan)),
    lambda: precise_log_weights({}, 3, 8, 0.01),
    lambda: precise_log_weights({}, 8, 4, 0.01),
])  # fmt: skip
def test_misuse_is_refused(call):
    with pytest.raises(ValueError):
        call()


def test_noise_is_a_function_of_the_round():
    model = exact_gaussian(linear_process(8), 0.7)
    x = draws(5)
    together = log_weights(model, x, range(6), ("key",))
    apart = [log_weights(model, x, rounds, ("key",), batch=5) for rounds in (range(4), range(4, 6))]
    assert torch.allclose(together, torch.cat(apart, 1), atol=1e-12)
    assert not torch.allclose(together, log_weights(model, x, range(6), ("other",)))


# Units
