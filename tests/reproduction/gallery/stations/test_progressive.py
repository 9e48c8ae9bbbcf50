"""Progressive generation: what is measured of x̂_0, and the rate and distortion of a code, on known answers."""

import math

import pytest
import torch
from helpers.gallery_images import process

from mlegfn.diffusion.likelihood import bits_per_dim
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import fixed_log_variance
from reproduction.gallery.images.chain import descend
from reproduction.gallery.images.gaussian import gaussian_model
from reproduction.gallery.stations import progressive


def knowing(x_0, levels=17):
    """The model that knows the image: its ε points to ``x_0`` from everywhere."""
    chain = process()
    return DenoisingModel(
        lambda x, time: chain.noise_of(x_0.expand_as(x), x, time + 1),
        chain,
        fixed_log_variance(chain, "small"),
        levels,
    )


def test_a_model_that_knows_the_image_sees_it_from_the_start():
    """x̂_0 = x_0 at every time, so no error; x̂_0 that is read off at another time than x_t's would be off."""
    x_0 = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    times = progressive.shown_times(5, 20)
    start = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ends, guesses = progressive.watched(knowing(x_0), start, times, torch.Generator().manual_seed(1))
    torch.testing.assert_close(ends, x_0.expand_as(ends), rtol=0, atol=1e-4)
    torch.testing.assert_close(guesses, x_0.expand_as(guesses), rtol=0, atol=1e-3)
    assert guesses.shape == (len(times), 3, 1, 8, 8)


def test_shown_times_fall_from_the_first_to_the_last():
    for count, timesteps in ((5, 1000), (41, 1000), (9, 4)):
        times = progressive.shown_times(count, timesteps)
        assert (times[0], times[-1]) == (timesteps, 1)
        assert times == sorted(set(times), reverse=True)
        assert len(times) == min(count, timesteps)


def test_the_coarse_and_the_fine_error_are_orthogonal_parts_of_the_whole():
    draw = torch.Generator().manual_seed(0)
    ends, guesses = torch.randn(3, 2, 8, 8, generator=draw), torch.randn(4, 3, 2, 8, 8, generator=draw)
    coarse, fine = progressive.errors(guesses, ends)
    whole = (guesses - ends).double().square().flatten(2).mean(2)
    torch.testing.assert_close(coarse.square() + fine.square(), whole, rtol=1e-5, atol=0)
    # A shift of everything is coarse alone; a checkerboard is fine alone.
    flat, board = (
        torch.full((1, 1, 8, 8), 0.5),
        (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8)).expand(1, 1, 8, 8),
    )
    for gap, expected in ((flat, (0.5, 0.0)), (board, (0.0, 1.0))):
        parts = progressive.errors(gap[None], torch.zeros(1, 1, 8, 8))
        assert [part.item() for part in parts] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="even sides"):
        progressive.errors(torch.zeros(1, 1, 1, 7, 7), torch.zeros(1, 1, 7, 7))


def test_half_time_is_the_time_from_which_on_the_error_stays_low():
    """Not the first time that it is low: the second column comes back up once."""
    error = torch.tensor([[4.0, 4.0, 4.0], [2.0, 1.0, 4.0], [1.0, 3.0, 4.0], [0.0, 1.0, 4.0]])
    assert progressive.half_time(error, 2.0, [40, 30, 20, 10]).tolist() == [30, 10, 10]


def test_what_there_is_to_settle_is_the_samples_spread_about_their_mean():
    """Two flat samples ±0.5 about a common checkerboard: all of the spread is coarse."""
    board = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8)).expand(2, 1, 8, 8)
    result = progressive.spreads(0.3 * board + torch.tensor([0.5, -0.5]).view(2, 1, 1, 1))
    assert result == pytest.approx({"coarse": 0.5, "fine": 0.0}, abs=1e-6)
    assert progressive.nearest([100, 75, 51, 24, 1], 50) == 2


def test_the_rate_is_the_bound_and_the_distortion_ends_at_zero():
    """After all steps the rate is the model's bound in bits/dim (another implementation, other noise), and nothing is
    left of the distortion. A rate that forgets the decoder's L_0 differs, and L_T is looked at by itself."""
    images = torch.randint(0, 17, (60, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float() / 8 - 1
    chain = process()
    model = DenoisingModel(lambda x, time: 0.9 * x, chain, fixed_log_variance(chain, "large"), 17)
    rate, distortion = progressive.rate_distortion(model, images, seed=0)
    bound = bits_per_dim(model, images, seed=1).per_image
    assert rate[-1].mean().item() == pytest.approx(bound.mean().item(), rel=0.03)
    assert rate.shape == distortion.shape == (21, 60)
    assert (rate.diff(dim=0) >= -1e-9).all()  # KL's, and a log-probability of a level
    assert distortion[-1].abs().max() == 0
    prior = progressive.rate_distortion(knowing(images[:1]), images[:1], seed=0)[0][0]
    mean, variance = chain.marginal(images[:1].double(), 20)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, variance.sqrt().expand_as(mean)),
        torch.distributions.Normal(0.0, 1.0),
    ).mean() / math.log(2)
    assert prior.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_distortion_of_a_gaussian_is_its_posterior_spread():
    """x_0 ~ N(0, s² I), exact ε: E‖x̂_0 − x_0‖²/d = s² (1 − ᾱ_t)/(ᾱ_t s² + 1 − ᾱ_t), s small enough for no clipping.
    Row k belongs to t = T − k: rows that are off by one are outside."""
    chain, s = process(), 0.2
    model = gaussian_model(chain, s**2 * torch.eye(64))
    images = s * torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    _, distortion = progressive.rate_distortion(model, images, seed=0)
    result = distortion[:-1].square().mean(1)
    noise, signal = chain.noise_variance[1:].flip(0), chain.alpha_bar[1:].flip(0)
    torch.testing.assert_close(result, s**2 * noise / (signal * s**2 + noise), rtol=0.05, atol=0)


def test_half_of_the_bits_is_each_images_own_half():
    rate = torch.tensor([[0.0, 0.0], [1.0, 3.0], [2.0, 4.0]])
    distortion = torch.tensor([[9.0, 8.0], [7.0, 6.0], [0.0, 0.0]])
    assert progressive.at_half(rate, distortion).tolist() == [7.0, 6.0]


def test_a_chain_can_be_cut_anywhere():
    """One draw from T to 0 equals one to t and on from there: the same noise in the same order, bit for bit."""
    model = gaussian_model(process(), torch.eye(2) * 0.5)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    whole = descend(model, x, 20, torch.Generator().manual_seed(1))
    draw = torch.Generator().manual_seed(1)
    assert torch.equal(descend(model, descend(model, x, 20, draw, stop=7), 7, draw), whole)
    assert torch.equal(descend(model, x, 7, draw, stop=7), x)


def test_rows_that_are_alike_get_the_same_noise():
    model = gaussian_model(process(), torch.eye(2) * 0.5)
    x = torch.zeros(6, 2)
    ends = descend(model, x, 20, torch.Generator().manual_seed(1), alike=3)
    assert torch.equal(ends[0], ends[2])
    assert not torch.equal(ends[2], ends[3])


@pytest.mark.parametrize(
    ("start", "stop", "alike", "message"),
    [(21, 0, 1, "≤ 20 = T"), (5, 6, 1, "0 ≤ 6 ≤ 5"), (5, 0, 4, "groups of 4")],
)
def test_a_chain_that_is_none_is_refused(start, stop, alike, message):
    model = gaussian_model(process(), torch.eye(2) * 0.5)
    with pytest.raises(ValueError, match=message):
        descend(model, torch.zeros(6, 2), start, torch.Generator(), stop=stop, alike=alike)
