"""Training on one planar problem: densities in the data's units, arms that are paired."""

import pytest
import torch
from helpers.exact import exact_gaussian, gradients, linear_process
from helpers.parts import settings_of

from mlegfn.data import planar as data
from mlegfn.diffusion.importance import log_likelihood, log_weights
from mlegfn.randomness import generator
from mlegfn.training.finetuning import finetune_gradient
from reproduction.planar import experiment as planar
from reproduction.planar.settings import Planar

SMOKE = settings_of(Planar, "planar")


def changed(**fields):
    """The smoke scale's settings with other fields; a dict changes the fields of that block."""
    update = {
        name: getattr(SMOKE, name).model_copy(update=value) if isinstance(value, dict) else value
        for name, value in fields.items()
    }
    return SMOKE.model_copy(update=update)


def test_a_density_is_reported_in_the_data_s_units(monkeypatch):
    """A model exact for N(0, I) in its own units is exact for the data's Gaussian in the data's."""
    std = torch.tensor([3.0, 0.2], dtype=torch.float64)
    mean = torch.tensor([5.0, -1.0], dtype=torch.float64)
    points = torch.randn(50, 2, generator=generator(0, "points"), dtype=torch.float64)
    units, test = planar.Units(mean, std), mean + std * points
    model = exact_gaussian(linear_process(50), 1.0)
    exact = -torch.distributions.Normal(mean, std).log_prob(test).sum(1).mean().item()

    def nll():
        return log_likelihood(planar.importance_weights("moons", test, model, units, range(2))).nll

    assert nll() == pytest.approx(exact, abs=1e-3)
    monkeypatch.setattr(planar.Units, "log_jacobian", 0.0)
    assert abs(nll() - exact) > 0.4  # log 3 + log 0.2 = −0.51 was missing


def test_units_of_points_and_back():
    points = data.sample("swissroll", 500, generator(0))
    units = planar.Units.of(points)
    inside = units.to_model(points)
    assert torch.allclose(inside.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(inside.std(0), torch.ones(2), atol=1e-5)
    assert torch.allclose(units.to_data(inside), points, atol=1e-5)


@pytest.fixture(scope="module")
def start():
    return planar.pretrain("moons", SMOKE, 0)


def first_gradient(settings, start, arm):
    """The raw gradient of fine-tuning step 0, and the evaluations that it took."""
    network = planar.new_network(settings)
    network.load_state_dict(
        {k.removeprefix("raw."): v for k, v in start.tensors.items() if k.startswith("raw.")}
    )
    kind = settings.diffusion.variance
    made = finetune_gradient(
        planar.model_of(network, settings, start.errors), start.points, settings, arm, ("planar", "moons"), 0,
        flip=False, errors=start.errors, kind=kind,
    )  # fmt: skip
    made.accumulate(0)
    return gradients(network), vars(made.evaluations)


def test_arms_are_paired(start):
    """The consistency term is all that vlb_tbc adds: with λ = 0 it takes the very step of the bound alone on its batch."""
    off = changed(consistency={"weight": 0.0})
    on = changed(consistency={"weight": 0.1})
    without, spent = first_gradient(off, start, "vlb_tbc")
    assert spent == {"forward": SMOKE.batch, "backward": SMOKE.batch}
    assert not torch.equal(first_gradient(on, start, "vlb_tbc")[0], without)
    for arm in ("simple", "vlb"):  # which do not know λ
        assert torch.equal(first_gradient(on, start, arm)[0], first_gradient(off, start, arm)[0])


def test_arms_spend_equal_evaluations(start):
    spent = [first_gradient(SMOKE, start, arm)[1] for arm in ("simple", "vlb", "vlb_tbc")]
    tbc = SMOKE.consistency
    chain = tbc.images * tbc.trajectories * SMOKE.diffusion.timesteps
    assert spent == [{"forward": SMOKE.batch + chain, "backward": SMOKE.batch + chain}] * 3


def test_two_passes_cost_the_same_in_forward_evaluations(start):
    small = changed(consistency={"chunk": 5})
    spent = {arm: first_gradient(small, start, arm)[1] for arm in ("simple", "vlb_tbc")}
    assert spent["simple"]["forward"] == spent["vlb_tbc"]["forward"]
    assert spent["simple"]["backward"] >= spent["vlb_tbc"]["backward"]


def test_fine_tuning_goes_on_from_the_checkpoint(start):
    """No step: the averaged weights of the checkpoint; the checkpoint itself is never written to."""
    before = {name: tensor.clone() for name, tensor in start.tensors.items()}
    model, spent, logs = planar.finetune("moons", changed(finetune_steps=0), start, "vlb_tbc")
    assert logs == [] and spent.forward == 0
    assert all(torch.equal(start.tensors[f"ema.{n}"], p) for n, p in model.network.named_parameters())
    planar.finetune("moons", SMOKE, start, "vlb_tbc")
    assert all(torch.equal(before[name], start.tensors[name]) for name in before)


@pytest.mark.parametrize("variance", ["large", "small", "learned"])
def test_every_variance_and_chain_trains(variance):
    for chain in ("full", "respaced", "subtrajectory"):
        settings = changed(diffusion={"variance": variance}, consistency={"chain": chain, "chain_steps": 2})
        begin = planar.pretrain("circles", settings, 0)
        model, spent, _ = planar.finetune("circles", settings, begin, "vlb_tbc")
        log_w = log_weights(model, begin.points[:8], range(2), ("any",))
        assert log_w.isfinite().all() and spent.forward > 0


@pytest.mark.parametrize("variance", ["analytic", "learned"])
def test_a_restored_model_is_the_model(start, variance):
    settings = changed(diffusion={"variance": variance})
    begin = planar.pretrain("moons", settings, 0)
    model, _, _ = planar.finetune("moons", settings, begin, "vlb_tbc")
    weights = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    again = planar.restored_model(settings, weights, model.log_variance)
    both = [log_weights(each, begin.points[:8], range(2), ("any",)) for each in (model, again)]
    assert torch.equal(*both)
