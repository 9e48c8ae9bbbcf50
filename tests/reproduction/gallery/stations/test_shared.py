"""Shared latents: what is shared is shared bit for bit, and interpolation keeps the noise's size."""

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.gallery_images import process

from reproduction.gallery.images.gaussian import gaussian_model
from reproduction.gallery.images.judging import Classifier, agreement, pairwise_distance
from reproduction.gallery.stations import shared

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def model():
    """The exact model of N(0, 0.25 I) on 8×8 pixels, T = 20."""
    return gaussian_model(process(), 0.25 * torch.eye(64))


def test_samples_share_x_t_bit_for_bit_and_differ_below_it(model):
    states = {}

    def watch(t, x_t, eps):
        states[t] = x_t.unflatten(0, (3, 4))

    draw = torch.Generator().manual_seed(0)
    x_t = torch.randn(3, *SHAPE, generator=draw)
    ends = shared.branches(model, x_t, 12, 4, draw, watch=watch)
    assert ends.shape == (3, 4, *SHAPE)
    assert all(torch.equal(states[12][:, k], x_t) for k in range(4))
    for t in range(11, 0, -1):  # siblings differ, at every time below
        assert all(not torch.equal(states[t][:, k], states[t][:, 0]) for k in range(1, 4))
    assert max(states) == 12


def test_a_trunk_is_one_path(model):
    """x_t at a smaller t comes from the one at a larger t, not from a path of its own."""
    times = {"all": 20, "some": 8, "few": 2}
    states = shared.trunks(model, (200, *SHAPE), times, torch.Generator().manual_seed(0))
    whole = shared.trunks(model, (200, *SHAPE), {"few": 2}, torch.Generator().manual_seed(0))
    assert torch.equal(states["few"], whole["few"])
    both = torch.stack([states["some"].flatten(), states["few"].flatten()]).corrcoef()[0, 1]
    assert both > 0.3  # 0 ± 0.01 for two paths


def test_sharing_x_T_costs_nothing_and_sharing_less_noise_costs_more(model):
    """Exactly: given x_t, x_0 has variance s²(1 − ᾱ_t)/(ᾱ_t s² + 1 − ᾱ_t), so the mean distance of two falls with t.
    Siblings with the same noise would be at distance 0, those without a common x_t at that of independent ones."""
    groups = shared.families(model, (6, *SHAPE), {100: 20, 30: 6, 10: 2}, 8, seed=0)
    distance = {name: sum(map(pairwise_distance, group)) / 6 for name, group in groups.items()}
    assert distance[100] == pytest.approx(distance["independent"], rel=0.05)
    assert distance[10] < 0.7 * distance[30] < 0.7 * 0.95 * distance[100]


def test_families_are_a_function_of_the_seed(model):
    first, again, other = (shared.families(model, (2, *SHAPE), {100: 20}, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first[100], again[100])
    assert not torch.equal(first[100], other[100])


def test_a_mixture_has_the_noise_of_x_t_at_every_weight():
    """Its ends are the two images' x_t; in between its variance is 1 − ᾱ_t. On a line of independent noises the middle
    would have half of that, in DDPM's way."""
    chain, t = process(), 10
    first, second = torch.full((4000, 1, 2, 2), 0.5), torch.full((4000, 1, 2, 2), -0.3)
    weights = torch.linspace(0, 1, 5)
    x_t = shared.mixture(chain, first, second, t, weights, torch.Generator().manual_seed(0))
    assert x_t.shape == (4000, 5, 1, 2, 2)
    for k, weight in enumerate(weights.tolist()):
        mean = chain.sqrt_alpha_bar[t].item() * (0.5 * (1 - weight) - 0.3 * weight)
        values = x_t[:, k].double()
        assert values.mean().item() == pytest.approx(mean, abs=5 / 16000**0.5)
        assert values.var().item() == pytest.approx(
            chain.noise_variance[t].item(), rel=5 * (2 / 16000) ** 0.5
        )
    # The two ends have independent noises, the neighbours nearly the same.
    rows = (x_t - x_t.mean(0)).transpose(0, 1).flatten(1)
    assert rows.corrcoef()[0, 4].abs() < 0.05
    assert rows.corrcoef()[0, 1].item() == pytest.approx(math.cos(math.pi / 8), abs=0.03)


def test_an_image_comes_back_the_nearer_the_earlier_it_turns(model):
    draw = torch.Generator().manual_seed(0)
    first, second = (0.5 * torch.randn(6, *SHAPE, generator=draw) for _ in range(2))
    mixed = shared.interpolations(model, first, second, {100: 20, 5: 1}, 3, seed=0)
    assert mixed[5].shape == (6, 5, *SHAPE)
    assert torch.equal(mixed[5][:, 0], first) and torch.equal(mixed[5][:, -1], second)
    result = shared.between(mixed, torch.cat([first, second]))
    assert result["reconstruction_5"] < 0.15 < 0.4 < result["reconstruction_100"]
    assert result["nearest_pixels"] > 0.2  # the mean of two of the data is neither


def test_pairs_have_two_labels():
    images = SimpleNamespace(
        test_labels=torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]),
        test_images=torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1),
        levels=17,
    )
    for seed in range(5):
        first, second = (((x + 1) * 8).round().long().flatten() for x in shared.pairs(images, 3, seed))
        assert (images.test_labels[first] != images.test_labels[second]).all()


def test_distance_and_agreement_of_a_group_by_hand():
    images = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-5.0, -1.0]])  # clipped to −1
    assert pairwise_distance(images) == pytest.approx((1 + 1 + 2) / 3)
    assert agreement(torch.tensor([3, 3, 1, 3])) == pytest.approx(3 / 6)
    for function in (pairwise_distance, agreement):
        with pytest.raises(ValueError, match="at least two images"):
            function(torch.zeros(1))


def test_the_classifier_knows_real_digits_and_not_their_negatives():
    from mlegfn.data import digits
    from reproduction.gallery.images.model import test_images as unit_test
    from reproduction.gallery.images.model import train_images

    images = digits.load()
    judge = Classifier(train_images(images), images.train_labels)
    data = unit_test(images)
    assert judge.accuracy(data, images.test_labels) > 0.97
    assert judge.accuracy(-data, images.test_labels) < 0.5
    assert judge.accuracy(3 * data, images.test_labels) > 0.6  # clipped, not refused
    with pytest.raises(ValueError, match="360 images have 3 labels"):
        judge.accuracy(data, images.test_labels[:3])
