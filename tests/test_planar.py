"""The planar experiment: likelihoods against exact densities, arms that are paired, a stage that repeats."""

import json
import math
from pathlib import Path

import pytest
import torch
from exact import exact_gaussian, gaussian_log_prob, gradients, linear_process
from safetensors.torch import load_file

from mlegfn.config import load
from mlegfn.data import planar as data
from mlegfn.diffusion.importance import log_likelihood, log_weights, precise_log_weights
from mlegfn.experiments import planar
from mlegfn.networks.mlp import TimeMLP
from mlegfn.randomness import generator
from mlegfn.stages import planar as stage
from mlegfn.training.ema import Ema
from mlegfn.training.finetuning import finetune_gradient

SMOKE = load().scale("smoke").planar


def changed(**fields):
    """The smoke scale's settings with other fields; a dict changes the fields of that block."""
    update = {
        name: getattr(SMOKE, name).model_copy(update=value) if isinstance(value, dict) else value
        for name, value in fields.items()
    }
    return SMOKE.model_copy(update=update)


def draws(count, dims=2, scale=1.0, key="points"):
    return scale * torch.randn(count, dims, generator=generator(0, key), dtype=torch.float64)


def skewed(spread, points=400, seed=0):
    """rounds → log-weights N(−spread²/2, spread²) of points whose log p is 0, so E[w] = 1."""

    def draw(rounds):
        noise = [torch.randn(points, generator=generator(seed, r), dtype=torch.float64) for r in rounds]
        return spread * torch.stack(noise, 1) - spread**2 / 2

    return draw


# Importance weighting


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


def test_a_density_is_reported_in_the_data_s_units(monkeypatch):
    """A model exact for N(0, I) in its own units is exact for the data's Gaussian in the data's."""
    std = torch.tensor([3.0, 0.2], dtype=torch.float64)
    mean = torch.tensor([5.0, -1.0], dtype=torch.float64)
    units, test = planar.Units(mean, std), mean + std * draws(50)
    model = exact_gaussian(linear_process(50), 1.0)
    exact = -torch.distributions.Normal(mean, std).log_prob(test).sum(1).mean().item()

    def nll():
        return log_likelihood(planar._weights("moons", test, model, units)(range(2))).nll

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


# Arms


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
    accumulate, evaluations = finetune_gradient(
        planar.model_of(network, settings, start.errors), start.points, settings, arm, ("planar", "moons"), 0,
        flip=False, errors=start.errors, kind=kind,
    )  # fmt: skip
    accumulate(0)
    return gradients(network), vars(evaluations)


def test_arms_are_paired(start):
    """With λ = 0 the arm tbc takes the very step of its anchor, bit for bit; with λ > 0 it does not."""
    gradient, _ = first_gradient(SMOKE, start, "simple")
    for anchor, arm in (("simple", "simple"), ("vlb", "vlb")):
        off = changed(anchor=anchor, consistency={"weight": 0.0})
        assert torch.equal(first_gradient(off, start, "tbc")[0], first_gradient(off, start, arm)[0])
    on = changed(anchor="simple", consistency={"weight": 0.1})
    assert not torch.equal(first_gradient(on, start, "tbc")[0], gradient)
    assert torch.equal(first_gradient(on, start, "simple")[0], gradient)


def test_arms_spend_equal_evaluations(start):
    spent = [first_gradient(SMOKE, start, arm)[1] for arm in ("simple", "vlb", "tbc")]
    tbc = SMOKE.consistency
    chain = tbc.images * tbc.trajectories * SMOKE.diffusion.timesteps
    assert spent == [{"forward": SMOKE.batch + chain, "backward": SMOKE.batch + chain}] * 3


def test_two_passes_cost_the_same_in_forward_evaluations(start):
    small = changed(consistency={"chunk": 5})
    spent = {arm: first_gradient(small, start, arm)[1] for arm in ("simple", "tbc")}
    assert spent["simple"]["forward"] == spent["tbc"]["forward"]
    assert spent["simple"]["backward"] >= spent["tbc"]["backward"]


def test_fine_tuning_goes_on_from_the_checkpoint(start):
    """No step: the averaged weights of the checkpoint; the checkpoint itself is never written to."""
    before = {name: tensor.clone() for name, tensor in start.tensors.items()}
    model, spent, logs = planar.finetune("moons", changed(finetune_steps=0), start, "tbc")
    assert logs == [] and spent.forward == 0
    assert all(torch.equal(start.tensors[f"ema.{n}"], p) for n, p in model.network.named_parameters())
    planar.finetune("moons", SMOKE, start, "tbc")
    assert all(torch.equal(before[name], start.tensors[name]) for name in before)


@pytest.mark.parametrize("variance", ["large", "small", "learned"])
def test_every_variance_and_chain_trains(variance):
    for chain in ("full", "respaced", "subtrajectory"):
        settings = changed(diffusion={"variance": variance}, consistency={"chain": chain, "chain_steps": 2})
        begin = planar.pretrain("circles", settings, 0)
        model, spent, _ = planar.finetune("circles", settings, begin, "tbc")
        log_w = log_weights(model, begin.points[:8], range(2), ("any",))
        assert log_w.isfinite().all() and spent.forward > 0


# Network and average


def test_the_network_learns_and_uses_the_time():
    torch.manual_seed(0)
    network, x = TimeMLP(50, 64, 2), draws(256).float()
    assert network(x, torch.zeros(256, dtype=torch.long)).shape == (256, 2)
    assert TimeMLP(50, 8, 1, outputs=2)(x, torch.full((256,), 49)).shape == (256, 4)
    optimizer = torch.optim.Adam(network.parameters(), 0.005)
    times = torch.arange(256) % 50
    target = torch.sin(6 * x) * (times[:, None] > 25)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (network(x, times) - target).pow(2).mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * target.var()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_average_is_that_of_diffusers():
    training_utils = pytest.importorskip("diffusers.training_utils")
    parameter = torch.nn.Parameter(draws(7).float())
    ours = Ema([parameter], 0.9)
    theirs = training_utils.EMAModel([parameter], decay=0.9, min_decay=0.9, foreach=True)
    for step in range(5):
        with torch.no_grad():
            parameter.add_(draws(7, key=("step", step)).float())
        ours.step([parameter])
        theirs.step([parameter])
        assert torch.equal(ours.shadow_params[0], theirs.shadow_params[0])
    assert ours.optimization_step == theirs.optimization_step


# The stage


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    scale = load().scale("smoke")
    monkeypatch.chdir(tmp_path)
    return scale


def test_the_stage_writes_its_schema_and_repeats_to_the_byte(in_folder):
    scale = in_folder
    folder = Path("results/smoke")
    written = []
    for _ in range(2):
        stage.run("smoke", scale, "moons")
        files = [folder / "metrics/planar/moons.json", folder / "samples/planar-moons.safetensors"]
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]

    metrics = json.loads(written[0][0])
    assert {
        "scale",
        "problem",
        "trajectories",
        "points",
        "timesteps",
        "runs",
        "mmd_floor",
        "mmd_kernel",
    } <= set(metrics)
    assert metrics["scale"] == "smoke" and metrics["problem"] == "moons"
    assert metrics["entropy"] == pytest.approx(2.394, abs=0.001)
    assert set(metrics["mmd_floor"]) >= {"mean", "quantile_95"}
    assert {(run["model"], run["seed"]) for run in metrics["runs"]} == {
        (model, seed) for model in ("ddpm", "mle_gfn") for seed in (0, 1)
    }
    for run in metrics["runs"]:
        assert run["nll"] <= run["nll_half"] + 0.5 and run["nll"] < run["elbo_nll"]
        assert run["trajectories"] == metrics["trajectories"]
        assert set(run["network_evaluations"]) == {"forward", "backward"}
    assert len({json.dumps(run["network_evaluations"]) for run in metrics["runs"]}) == 1
    values = {run["model"]: run["nll"] for run in metrics["runs"] if run["seed"] == 0}
    assert values["ddpm"] != values["mle_gfn"]
    samples = load_file(folder / "samples/planar-moons.safetensors")
    assert set(samples) == {"data", "ddpm", "mle_gfn"}
    assert all(s.shape == (scale.planar.sample_points, 2) and s.isfinite().all() for s in samples.values())
