"""Inpainting: the known part stays, replacement is biased, resampling approaches the exact conditional law."""

from types import SimpleNamespace

import pytest
import torch
from helpers.gallery_images import TINY, process

from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from reproduction.gallery.images.filling import KNOWN, filled, known_part, seam
from reproduction.gallery.images.gaussian import gaussian_model
from reproduction.gallery.images.model import shortened
from reproduction.gallery.stations import inpainting


@pytest.mark.parametrize("part", KNOWN)
@pytest.mark.parametrize("resamplings", [1, 3])
def test_known_pixels_are_kept_exactly_and_the_others_are_not(part, resamplings):
    model = gaussian_model(process(), 0.25 * torch.eye(64))
    draw = torch.Generator().manual_seed(0)
    images, mask = torch.rand(5, 1, 8, 8, generator=draw), known_part(part, (1, 8, 8))
    x = filled(model, images, mask, draw, jump=4, resamplings=resamplings)
    known = mask.bool().expand_as(x)
    assert torch.equal(x[known], images[known])
    assert (x[~known] != images[~known]).all()


def test_the_parts_are_what_they_are_called():
    shares = {part: known_part(part, (3, 8, 8)).mean().item() for part in KNOWN}
    assert shares == {"three_quarters": 0.75, "half": 0.5, "quarter": 0.25}
    assert known_part("quarter", (1, 4, 4))[0, 0, 0] == 1
    assert known_part("three_quarters", (1, 4, 4))[0, 3, 3] == 0
    with pytest.raises(ValueError, match="no part 'third'; there are three_quarters"):
        known_part("third", (1, 8, 8))
    with pytest.raises(ValueError, match="known, 1, or not, 0"):
        filled(None, torch.zeros(1, 1, 2, 2), torch.full((1, 2, 2), 0.5), torch.Generator())


def test_replacement_is_biased_on_a_gaussian_and_resampling_approaches_the_conditional_law():
    """x ~ N(0, [[1, ρ], [ρ, 1]]), ρ = 0.9, x_1 = 1 known: x_2 is N(0.9, 0.19). With exact ε, replacement gives a mean
    near 0.6 and too much variance; twelve resamplings come near to both. Known pixels that are not noised to the
    right level, or a way back with another step's β (as diffusers' own shortened chains have), would not."""
    chain = GaussianDiffusion(betas(1000))
    settings = SimpleNamespace(
        seeds=[0], correlation=0.9, points=2000, sampling_steps=100, jump=5, gaussian_resamplings=[1, 4, 12]
    )
    plain, few, many = inpainting.on_a_gaussian(chain, settings)
    assert plain["mean_error"] > 0.25
    assert plain["variance_error"] > 0.08
    assert few["mean_error"] < 0.4 * plain["mean_error"]
    assert many["mean_error"] < 0.06
    assert many["variance_error"] < 0.6 * plain["variance_error"]
    assert plain["mean_error_se"] == pytest.approx((plain["variance"] / 2000) ** 0.5)


def test_what_is_independent_of_the_known_part_is_filled_from_its_marginal():
    """ρ = 0: replacement is exact, but for the step size."""
    chain = GaussianDiffusion(betas(1000))
    model = shortened(gaussian_model(chain, torch.diag(torch.tensor([1.0, 0.5]))), 100)
    given = torch.ones(4000, 2, dtype=torch.float64)
    x = filled(model, given, torch.tensor([1.0, 0.0], dtype=torch.float64), torch.Generator().manual_seed(0))[
        :, 1
    ]
    assert x.mean().abs() < 0.05
    assert x.var().item() == pytest.approx(0.5, rel=0.1)


def test_replacement_that_is_compared_costs_as_many_evaluations_as_resampling(monkeypatch):
    model = gaussian_model(GaussianDiffusion(betas(200, "linear", 0.001, 0.1)), torch.eye(64) * 0.25)
    network, calls = model.network, {}

    def counting(x, time):
        calls[current[0]] = calls.get(current[0], 0) + 1
        return network(x, time)

    model.network, current = counting, [None]
    original = inpainting.filled

    def named(chain, *rest, **more):
        current[0] = f"{chain.timesteps} {more}"
        return original(chain, *rest, **more)

    monkeypatch.setattr(inpainting, "filled", named)
    settings = TINY["inpainting"].model_copy(update={"sampling_steps": 12, "jump": 3, "resamplings": 4})
    images, mask = torch.zeros(2, 1, 8, 8), known_part("half", (1, 8, 8))
    result = inpainting.arms(model, images, mask, settings, ("half", 0))
    short, long, resampled = calls.values()
    assert short == 12
    assert long == resampled > short
    assert list(result) == list(inpainting.ARMS)


def test_a_seam_by_hand():
    """Left half 0, right half 1: every pair across the seam differs by one; rows of the same half by nothing."""
    images = torch.zeros(2, 1, 4, 4)
    images[..., 2:] = 1
    assert seam(images, known_part("half", (1, 4, 4))) == 1.0
    # The quarter's seam has two pairs of neighbours to the right, which differ, and two below, which do not.
    assert seam(images, known_part("quarter", (1, 4, 4))) == 0.5
    with pytest.raises(ValueError, match="no seam"):
        seam(images, torch.ones(1, 4, 4))
