"""What the station of objectives relies on: equal arms where theory says so, one pass for many variances, paired draws."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mlegfn.diffusion.likelihood import bits_per_dim
from mlegfn.networks.unet import eps_network
from mlegfn.randomness import generator
from reproduction.gallery.likelihood.remembered import Remembered
from reproduction.gallery.likelihood.yardstick import Yardstick
from reproduction.gallery.settings.likelihood import Objectives
from reproduction.gallery.stations import objectives

SETTINGS = Objectives(
    seeds=[0, 1],
    network={
        "block_out_channels": [8],
        "attention": [False],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "dropout": 0.0,
    },
    timesteps=4,
    beta_schedule="linear",
    beta_start=0.05,
    beta_end=0.9,
    steps=2,
    batch=4,
    optimizer={"lr": 0.01, "warmup": 0, "clip": 1.0, "ema_decay": 0.5},
    variance_images=6,
    test_images=4,
    samples=4,
    projections=10,
)


@pytest.fixture(scope="module")
def images():
    drawn = torch.randint(0, 5, (12, 1, 4, 4), generator=generator(0, "images"), dtype=torch.uint8)
    return SimpleNamespace(train_images=drawn[:8], test_images=drawn[8:], levels=5, shape=(1, 4, 4))


@pytest.fixture(scope="module")
def networks(images):
    return {name: objectives.trained(arm, SETTINGS, images, 0) for name, arm in objectives.ARMS.items()}


def outputs(network):
    x = torch.randn(5, 1, 4, 4, generator=generator(0, "x"))
    with torch.no_grad():
        return network(x, torch.tensor([0, 1, 2, 3, 3]), return_dict=False)[0]


def test_the_hybrid_leaves_the_mean_to_l_simple(images, networks):
    """The bound in L_hybrid has no gradient through the mean: a head that is read for the mean alone would move as under
    L_simple but for the shared trunk, and the variance head moves. The first step from equal weights shows it."""
    settings = SETTINGS.model_copy(update={"steps": 1})
    simple, hybrid, bound = (
        objectives.trained(objectives.ARMS[name], settings, images, 0)
        for name in ("simple", "hybrid", "bound")
    )
    start = objectives.build(SETTINGS, images.shape, 0, learned_variance=True)
    head = hybrid.conv_out.weight - start.conv_out.weight
    assert head[1:].abs().max() > 0  # the variance learns
    # Adam's first step is ±lr a weight, by the sign of the gradient: that of the ε-rows is L_simple's.
    plain = simple.conv_out.weight - objectives.build(SETTINGS, images.shape, 0).conv_out.weight
    assert torch.equal(head[:1].sign(), plain.sign())
    other = bound.conv_out.weight - objectives.build(SETTINGS, images.shape, 0).conv_out.weight
    assert not torch.equal(other.sign(), plain.sign())  # and not that of any loss


def test_training_is_a_function_of_its_seed(images, networks):
    again = objectives.trained(objectives.ARMS["hybrid"], SETTINGS, images, 0)
    assert torch.equal(outputs(again), outputs(networks["hybrid"]))
    other = objectives.trained(objectives.ARMS["hybrid"], SETTINGS, images, 1)
    assert not torch.equal(outputs(other), outputs(networks["hybrid"]))


def test_the_analytic_variance_is_the_best_scalar(images, networks):
    """On the images and the noise that it was measured on, the terms t ≥ 2 of the bound are lowest there: any factor at
    all makes them worse, and so do β_t and β̃_t."""
    data = SimpleNamespace(**{**vars(images), "test_images": images.train_images[:6]})
    result = objectives.with_variances(eps_network(networks["simple"]), False, SETTINGS, data, 0)
    model = result["analytic"]

    def terms(log_variance):
        one = model.with_process(model.process, log_variance)
        x0 = objectives.train_images(data)[:6]
        from mlegfn.diffusion.likelihood import image_noise

        noise, total = image_noise(x0, range(6), 4, (0, "variance")), []
        for t in range(2, 5):
            times = torch.full((6,), t)
            with torch.no_grad():
                total.append(one.bound_terms(x0, one.process.noise(x0, times, noise[t - 1]), times).mean())
        return torch.stack(total)

    best = terms(model.log_variance)
    others = [model.log_variance + shift for shift in (-0.1, 0.1)]
    others += [result[name].log_variance for name in ("large", "small")]
    assert all((terms(other) > best).all() for other in others)


def test_one_pass_serves_every_variance(images, networks):
    """``Remembered`` changes no number, and the network sees each test state once for all four variances."""
    network = eps_network(networks["bound_learned"])
    remembered = Remembered(network)
    test = objectives.scale_to_unit(images.test_images, images.levels)
    plain = objectives.with_variances(network, True, SETTINGS, images, 0)
    shared = objectives.with_variances(remembered, True, SETTINGS, images, 0)
    assert set(shared) == {"large", "small", "analytic", "learned"}
    spent = remembered.evaluations
    for name in shared:
        one, two = (bits_per_dim(models[name], test, 0).per_image for models in (plain, shared))
        assert torch.equal(one, two)
    assert remembered.evaluations == spent + SETTINGS.timesteps * len(test)


def test_what_the_station_measures(images, monkeypatch):
    """The whole of it: rows, pairs of seeds, terms that add up to the NLL, differences that are differences."""
    result = objectives.Objectives.run(SETTINGS, SimpleNamespace(images=images))
    rows = [(row["arm"], row["variance"]) for row in result.details["rows"]]
    assert len(rows) == len(set(rows)) == 14 and ("simple", "learned") not in rows
    values = {name: np.array(quantity.values) for name, quantity in result.quantities.items()}
    assert all(len(each) == 2 for each in values.values())
    for row, terms in zip(rows, result.tensors["terms"], strict=True):
        assert terms.sum().item() == pytest.approx(values["nll_{}_{}".format(*row)].mean())
    better = np.minimum(values["nll_simple_large"], values["nll_simple_small"])
    assert np.allclose(values["analytic_less_fixed"], values["nll_simple_analytic"] - better)


def test_the_yardstick(images):
    yard = Yardstick(images, 4, 10, 0)
    test = objectives.scale_to_unit(images.test_images, images.levels)
    assert yard.distance(test) == 0 and yard.distance(test.flip(0)) == 0
    assert yard.distance(test + 10) == yard.distance(torch.ones_like(test)) > yard.floor() > 0
    with pytest.raises(ValueError, match="there are 4"):
        Yardstick(images, 5, 10, 0)
