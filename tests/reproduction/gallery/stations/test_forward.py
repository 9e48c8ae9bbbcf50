"""Station ``forward``: the exact mixture against closed forms, simulated paths against the closed form."""

import math
from types import SimpleNamespace

import pytest
import torch

from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from reproduction.gallery.points.mixture import Noised, entropy_and_divergence
from reproduction.gallery.settings.points import Forward
from reproduction.gallery.stations import forward

SETTINGS = Forward(
    seed=0,
    problems=["2spirals"],
    schedules=["linear"],
    timesteps=20,
    beta_start=0.01,
    beta_end=0.5,
    points=60,
    samples=400,
    paths=400,
    times=5,
)
PROCESS = GaussianDiffusion(betas(20, "linear", 0.01, 0.5))


def normal_divergence(mean_square, variance, dims):
    """KL(N(m, v I) ‖ N(0, I)), nats, with |m|² = ``mean_square``."""
    return 0.5 * (mean_square + dims * (variance - 1 - math.log(variance)))


@pytest.mark.parametrize("t", [1, 7, 20])
def test_one_datum_is_one_gaussian(t):
    """Catches a variance other than 1 − ᾱ_t (the notes' slip), a mean other than √ᾱ_t x, a lost constant."""
    datum = torch.tensor([[1.5, -0.5, 2.0]], dtype=torch.float64)
    noised, variance = Noised(datum, PROCESS), 1 - PROCESS.alpha_bar[t].item()
    x = torch.tensor([[0.3, 0.1, -1.0], [2.0, 2.0, 2.0]], dtype=torch.float64)
    mean = PROCESS.alpha_bar[t].sqrt() * datum
    wanted = torch.distributions.Normal(mean, variance**0.5).log_prob(x).sum(1)
    torch.testing.assert_close(noised.log_prob(x, t), wanted, rtol=1e-10, atol=1e-10)
    draw = torch.Generator().manual_seed(0)
    (entropy, error), (divergence, other) = entropy_and_divergence(noised, t, 20000, draw)
    assert abs(entropy - 1.5 * math.log(2 * math.pi * math.e * variance)) < 5 * error
    assert error < 0.02  # or the line above would say nothing
    exact = normal_divergence(PROCESS.alpha_bar[t].item() * datum.square().sum().item(), variance, 3)
    assert abs(divergence - exact) < 5 * other + 1e-9
    assert divergence == pytest.approx(exact, rel=0.05, abs=0.01)


def test_divergence_of_gaussian_data():
    """Many data of variance s²: p_t is N(0, ᾱ_t s² + 1 − ᾱ_t). Catches a mixture over too few or wrong centres."""
    rank = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    data = 2.0 * torch.special.ndtri(rank)[:, None]
    for t in (10, 14, 20):
        alpha_bar = PROCESS.alpha_bar[t].item()
        variance = alpha_bar * data.square().mean().item() + 1 - alpha_bar
        draw = torch.Generator().manual_seed(t)
        (entropy, error), (divergence, other) = entropy_and_divergence(Noised(data, PROCESS), t, 4000, draw)
        assert abs(divergence - normal_divergence(0, variance, 1)) < 5 * other + 1e-3
        assert abs(entropy - 0.5 * math.log(2 * math.pi * math.e * variance)) < 5 * error + 1e-3


def test_the_density_does_not_depend_on_how_x_is_split():
    data = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    x = torch.randn(33, 2, generator=torch.Generator().manual_seed(2))
    noised = Noised(data, PROCESS)
    torch.testing.assert_close(noised.log_prob(x, 3), noised.log_prob(x, 3, batch=7))


@pytest.mark.parametrize("t", [0, -1, 21])
def test_a_time_without_density_is_refused(t):
    with pytest.raises(ValueError, match="1…20"):
        Noised(torch.zeros(3, 2), PROCESS).log_prob(torch.zeros(1, 2), t)


class Mixed(GaussianDiffusion):
    """Paths of one schedule, the closed form of another."""

    def __init__(self, paths, form):
        super().__init__(form)
        self.sample_trajectory = GaussianDiffusion(paths).sample_trajectory


def largest(process):
    return max(abs(z) for pair in forward.simulated(process, DATA, SETTINGS) for z in pair)


DATA = torch.tensor([[1.0, -1.0]], dtype=torch.float64)


def test_simulated_paths_have_the_closed_form():
    assert largest(PROCESS) < 4


def test_paths_of_another_schedule_are_caught():
    """A third more β, or a table that is off by one step."""
    right = betas(20, "linear", 0.01, 0.5)
    assert largest(Mixed(1.3 * right, right)) > 4
    assert largest(Mixed(torch.cat([right[1:], right[-1:]]), right)) > 4


def inputs():
    draw = torch.Generator().manual_seed(3)
    images = torch.randint(17, (80, 1, 2, 2), generator=draw, dtype=torch.uint8)
    return SimpleNamespace(images=SimpleNamespace(train_images=images, levels=17))


def test_the_station():
    result = forward.Forward.run(SETTINGS, inputs())
    mean, variance = (result.quantities[f"simulation_{name}_linear"] for name in ("mean", "variance"))
    assert (mean.standard_error, variance.standard_error) == pytest.approx((800**-0.5, 400**-0.5))
    assert abs(mean.values[0]) < 4 * mean.standard_error
    assert abs(variance.values[0]) < 4 * variance.standard_error
    assert result.quantities["end_linear"].values[0] < 0.05
    for curve in result.details["curves"]:
        assert curve["t"][0] == 1 and curve["t"][-1] == 20
        falls = torch.tensor(curve["divergence"])
        errors = torch.tensor(curve["divergence_standard_error"])
        # The divergence from the stationary law never rises along a Markov chain.
        assert (falls.diff() < 4 * (errors[1:] + errors[:-1])).all()
    again = forward.Forward.run(SETTINGS, inputs())
    assert again.details == result.details
    assert all(torch.equal(again.tensors[name], value) for name, value in result.tensors.items())
