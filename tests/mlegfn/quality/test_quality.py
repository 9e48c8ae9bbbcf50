"""Sample quality: sliced Wasserstein against closed forms, its floor, the guarded way to FID."""

import hashlib
import io
import json
from functools import partial

import numpy as np
import pytest
import torch
from helpers.exact import exact_gaussian, linear_process
from helpers.settings import Settings

from mlegfn.data.images import Images
from mlegfn.errors import UserError
from mlegfn.quality import draw, inception, measure
from mlegfn.quality.measuring import FLOOR_DRAWS
from mlegfn.quality.sliced import patches, sliced_wasserstein, unit_directions
from mlegfn.randomness import generator


def images(train=40, test=24, levels=17, channels=1, side=8, seed=0):
    """Images whose pixels are a random brightness each, so that they have structure to miss."""

    def some(count, name):
        bright = torch.rand(count, 1, 1, 1, generator=generator(seed, name))
        grain = torch.rand(count, channels, side, side, generator=generator(seed, name, "grain"))
        return ((0.7 * bright + 0.3 * grain) * (levels - 1)).round().to(torch.uint8)

    labels = [torch.zeros(n, dtype=torch.int64) for n in (train, test)]
    return Images(
        some(train, "train"), labels[0], some(test, "test"), labels[1], levels, "made up", 1, "here"
    )


def settings(**changes):
    return Settings(**{"seed": 0, "samples": 16, "projections": 50, "inception": None, **changes})


def measured(data, drawn, **changes):
    return measure(lambda count: drawn[:count], data, settings(**changes))


# --- the distance -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift, scale", [(0.0, 2.0), (0.5, 1.0), (-1.0, 0.3)])
def test_the_distance_of_two_gaussians_is_the_closed_form(shift, scale):
    """N(0, I) and N(m, s²I): on θ, W_2² = (θᵀm)² + (s − 1)²; over the sphere (θᵀm)² has the mean |m|²/d."""
    d, n = 5, 10_000
    mean = shift * torch.arange(1, d + 1, dtype=torch.float64)
    x = torch.randn(n, d, generator=generator(0, "x"), dtype=torch.float64)
    y = mean + scale * torch.randn(n, d, generator=generator(0, "y"), dtype=torch.float64)
    expected = (mean.square().sum() / d + (scale - 1) ** 2).sqrt().item()
    found = sliced_wasserstein(x, y, orthonormal_frames(d, 12))
    assert found == pytest.approx(expected, rel=0.02)


def orthonormal_frames(d, count):
    """[d, d·count] columns; over a frame Σ (θᵀm)² is |m|² exactly, so that directions add no error."""
    draws = torch.randn(count, d, d, generator=generator(0, "frames"), dtype=torch.float64)
    return torch.cat(list(torch.linalg.qr(draws).Q), dim=1)


def test_in_one_dimension_it_is_optimal_transport():
    """Against the assignment problem, solved: no order of the points may be assumed."""
    from scipy.optimize import linear_sum_assignment

    x, y = (torch.randn(30, 1, generator=generator(1, k), dtype=torch.float64) for k in "ab")
    cost = (x - y.T).square().numpy()
    expected = np.sqrt(cost[linear_sum_assignment(cost)].mean())
    assert sliced_wasserstein(x, y, torch.ones(1, 1, dtype=torch.float64)) == pytest.approx(expected)


def test_the_distance_is_zero_for_equal_sets_in_any_order_and_grows_with_a_shift():
    x = torch.randn(50, 12, generator=generator(2, "x"))
    directions = unit_directions(12, 80, generator(2, "directions"))
    far = partial(sliced_wasserstein, directions=directions)
    assert far(x, x.flip(0)) == pytest.approx(0, abs=1e-12)
    assert 0 < far(x, x + 0.1) < far(x, x + 0.2)
    assert far(x, x + 0.2) == pytest.approx(2 * far(x, x + 0.1), rel=1e-5)
    other = torch.randn(50, 12, generator=generator(2, "y"))
    assert far(x, other) == pytest.approx(far(other, x)) and far(x, other) > 0


def test_chunks_change_nothing(monkeypatch):
    x, y = (torch.randn(20, 4, generator=generator(3, k)) for k in "ab")
    directions = unit_directions(4, 33, generator(3, "directions"))
    whole = sliced_wasserstein(x, y, directions)
    monkeypatch.setattr("mlegfn.quality.sliced.VALUES", 100)
    assert sliced_wasserstein(x, y, directions) == pytest.approx(whole, rel=1e-12)


def test_directions_are_uniform_on_the_sphere():
    theta = unit_directions(3, 20_000, generator(4, "directions"))
    assert theta.norm(dim=0) == pytest.approx(np.ones(20_000))
    assert (theta @ theta.T / 20_000).numpy() == pytest.approx(np.eye(3) / 3, abs=0.01)


def test_patches_are_cut_out_of_their_image_at_equal_places():
    x = torch.arange(2 * 3 * 6 * 5).view(2, 3, 6, 5).float()
    cut = patches(x, 4, 7, generator(5, "places")).view(2, 7, 3, 4, 4)
    for image, own in zip(x, cut):
        for patch in own:
            top, left = divmod(int(patch[0, 0, 0] - image[0, 0, 0]), 5)
            assert torch.equal(patch, image[:, top : top + 4, left : left + 4])
    assert torch.equal(patches(x + 100, 4, 7, generator(5, "places")).view_as(cut), cut + 100)
    assert len({int(p[0, 0, 0]) for p in cut[0]}) > 1


@pytest.mark.parametrize(
    "x, y, directions",
    [
        (torch.zeros(3, 2), torch.zeros(4, 2), torch.ones(2, 1)),
        (torch.zeros(0, 2), torch.zeros(0, 2), torch.ones(2, 1)),
        (torch.zeros(3, 2), torch.zeros(3, 2), torch.ones(3, 1)),
        (torch.zeros(3, 2), torch.full((3, 2), torch.nan), torch.ones(2, 1)),
    ],
)
def test_sets_that_do_not_fit_are_refused(x, y, directions):
    with pytest.raises(ValueError, match=r"must (both )?be"):
        sliced_wasserstein(x, y, directions)


def test_patches_larger_than_the_image_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        patches(torch.zeros(1, 1, 3, 8), 4, 1, generator(0))


# --- against the floor --------------------------------------------------------------------------------------


def test_the_floor_is_positive_and_the_same_for_every_model():
    data = images()
    good, bad = measured(data, data.train_images), measured(data, 16 - data.train_images)
    assert good["floor"] == bad["floor"] and good["floor"]["draws"] == FLOOR_DRAWS >= 5
    for key in ("pixels", "patches"):
        floor = good["floor"]["sliced_wasserstein"][key]
        assert 0 < floor["standard_deviation"] < floor["mean"]


def test_training_images_lie_at_the_floor_and_noise_above_it():
    data = images(train=400, test=100)
    noise = torch.randint(0, 17, (100, 1, 8, 8), generator=generator(6, "noise")).to(torch.uint8)
    good, bad = measured(data, data.train_images, samples=100), measured(data, noise, samples=100)
    for key in ("pixels", "patches"):
        floor = good["floor"]["sliced_wasserstein"][key]
        reach = 5 * floor["standard_deviation"]
        assert abs(good["sliced_wasserstein"][key] - floor["mean"]) < reach
        assert bad["sliced_wasserstein"][key] > floor["mean"] + reach


def test_the_test_images_themselves_are_at_zero():
    data = images()
    found = measured(data, data.test_images)["sliced_wasserstein"]
    assert found == {"pixels": 0, "patches": 0}


def test_as_many_images_as_the_smaller_split_has():
    data = images(train=12, test=9)
    assert measured(data, data.train_images, samples=1000)["images"] == 9


def test_samples_are_a_function_of_seed_and_block_alone(monkeypatch):
    model = exact_gaussian(linear_process(8), 0.3)
    monkeypatch.setattr("mlegfn.quality.measuring.BLOCK", 4)
    first = draw(model, 10, (1, 4, 4), 17, seed=0)
    assert first.shape == (10, 1, 4, 4) and first.dtype == torch.uint8 and first.max() <= 16
    assert torch.equal(first, draw(model, 10, (1, 4, 4), 17, seed=0))
    assert torch.equal(first[:8], draw(model, 8, (1, 4, 4), 17, seed=0)), "a block depends on none after it"
    assert not torch.equal(first[:4], first[4:8])
    assert not torch.equal(first, draw(model, 10, (1, 4, 4), 17, seed=1))


# --- Inception ----------------------------------------------------------------------------------------------


def test_without_weights_two_scores_are_missing():
    data = images()
    found = measured(data, data.train_images)
    assert found["fid"] is None and found["inception_score"] is None


@pytest.mark.parametrize("content", [b"", b"\x80\x02cos\nsystem\n."])
def test_another_file_is_refused_in_one_line_before_anything_reads_it(tmp_path, monkeypatch, content):
    path = tmp_path / inception.WEIGHTS
    path.write_bytes(content)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    data = images()
    with pytest.raises(UserError) as error:
        measure(lambda _: pytest.fail("sampled first"), data, settings(inception=str(path)))
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    assert hashlib.sha256(content).hexdigest() in message and inception.WEIGHTS_SHA256 in message
    with pytest.raises(UserError, match="cannot be read"):
        inception.read_inception(tmp_path / "missing.pth")


def test_the_hash_is_the_one_that_the_name_of_the_file_holds():
    assert len(inception.WEIGHTS_SHA256) == 64
    assert inception.WEIGHTS.split("-")[-1] == f"{inception.WEIGHTS_SHA256[:8]}.pth"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A weights file of torch-fidelity's architecture with random weights, and its SHA-256."""
    from torch_fidelity import feature_extractor_inceptionv3 as library

    network = library.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(network, "load_state_dict", lambda *_: None)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            weights = network("random", ["2048"]).state_dict()
    weights["fc.weight"] *= 1e8  # random layers leave hardly anything: else every image has the same classes
    file = io.BytesIO()
    torch.save(weights, file)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    path.write_bytes(file.getvalue())
    return path, hashlib.sha256(file.getvalue()).hexdigest()


def test_fid_and_inception_score_through_the_library(stand_in, monkeypatch):
    """The whole path once: hash, unpickling, features, both scores; offline, with random weights."""
    path, digest = stand_in
    networks = []

    def read(*arguments):
        networks.append(inception.read_inception(*arguments))
        return networks[0]

    monkeypatch.setattr(inception, "WEIGHTS_SHA256", digest)
    monkeypatch.setattr(inception, "FEATURES", "64")  # moments of 2,048 features take the library 4 s each
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))
    monkeypatch.setattr("mlegfn.quality.measuring.read_inception", read)
    data = images(train=3, test=2)
    found = measured(data, data.test_images, samples=2, inception=str(path))
    assert found["fid"] == pytest.approx(0, abs=1e-3) and found["floor"]["fid"] > 0.01
    score, floor = found["inception_score"], found["floor"]["inception_score"]
    assert score["splits"] == 1 and score["mean"] > 1.001 and floor["mean"] > 1.001
    assert abs(score["mean"] - floor["mean"]) > 1e-3
    json.dumps(found, allow_nan=False)
    features, logits = inception.inception_features(networks[0], data.test_images, data.levels, batch=1)
    assert features.shape == (2, 64) and logits.shape == (2, 1008)
    full = data.test_images.double().mul(255 / 16).round().to(torch.uint8).repeat(1, 3, 1, 1)
    colour, _ = inception.inception_features(networks[0], full, 256)
    assert torch.allclose(colour, features, atol=1e-5), "grey levels are spread over 0 … 255 in 3 channels"
    assert not torch.allclose(features[0], features[1], atol=1e-3)


def test_frechet_distance_of_shifted_features_is_the_square_of_the_shift():
    x = torch.randn(500, 6, generator=generator(7, "features"), dtype=torch.float64)
    assert inception.frechet(x, x + 2) == pytest.approx(6 * 4)
    assert inception.frechet(x, x) == pytest.approx(0, abs=1e-6)


def test_inception_score_of_certain_and_even_classes_is_their_number():
    logits = 100 * torch.eye(5).repeat(20, 1)
    assert inception.inception_score(logits)["mean"] == pytest.approx(5, rel=1e-4)
    assert inception.inception_score(torch.zeros(100, 5))["mean"] == pytest.approx(1)
