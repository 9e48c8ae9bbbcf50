"""Station ``schedules``: monotone by construction, the bound's gradient in the schedule exact, comparisons paired."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mlegfn.diffusion.likelihood import bound_table, image_noise
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from reproduction.gallery.points.monotone import MonotoneSchedule, betas_of, gammas_of
from reproduction.gallery.points.scheduled import FixedSchedule, Scheduled, bound, bound_loss
from reproduction.gallery.settings.points import Schedules
from reproduction.gallery.station import Quantity
from reproduction.gallery.stations import schedules
from reproduction.settings.training import Optimizer

SPREAD = 1.3  # standard deviation of the one-dimensional Gaussian data below
OPTIMIZER = {"lr": 0.01, "warmup": 0, "clip": 1.0, "ema_decay": 0.5}


# The schedule itself.


@pytest.mark.parametrize("seed", range(20))
def test_monotone_whatever_the_parameters(seed):
    """Catches weights that are not made positive: with these draws, half of them would be negative."""
    schedule = MonotoneSchedule(15, 6, -4.0, 3.0)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=draw))
    gammas, result = schedule.gammas(), schedule.betas()
    assert (gammas.diff() > 0).all()
    assert ((result > 0) & (result < 1)).all()
    GaussianDiffusion(result)  # takes it


def test_the_start_has_the_given_ends_and_is_nearly_straight():
    gammas = MonotoneSchedule(21, 16, -5.0, 7.0).gammas()
    torch.testing.assert_close(
        gammas[[0, -1]], torch.tensor([-5.0, 7.0], dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert (gammas - torch.linspace(-5, 7, 21)).abs().max() < 0.6


@pytest.mark.parametrize("arguments", [(1, 4, 0, 1), (5, 0, 0, 1), (5, 4, 1, 1)])
def test_impossible_schedules_are_refused(arguments):
    with pytest.raises(ValueError, match="a learned schedule needs"):
        MonotoneSchedule(*arguments)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_gammas_are_those_of_the_library_and_back(kind):
    """Catches γ of the wrong sign, or one that is shifted by a step."""
    table = betas(20, kind, 0.01, 0.6)
    process = GaussianDiffusion(table)
    wanted = (process.noise_variance[1:] / process.alpha_bar[1:]).log()
    torch.testing.assert_close(gammas_of(table), wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(betas_of(gammas_of(table)), table, rtol=1e-9, atol=1e-12)


# The bound and its gradient. Data N(0, s²) in one dimension: the optimal denoiser is linear, the bound at that
# denoiser a closed function of the schedule, and as the denoiser is optimal, its own change adds nothing to the
# gradient. Everything is quadratic in (x_0, ε), so four points (±s, ±1) have the exact expectation.


class Best(nn.Module):
    """v of the optimal denoiser for Gaussian data under the schedule γ, frozen: E[v|x] = c_t x."""

    def __init__(self, gammas):
        super().__init__()
        noise, signal = torch.sigmoid(gammas), torch.sigmoid(-gammas)
        eps = noise.sqrt() / (signal * SPREAD**2 + noise)
        self.register_buffer("gain", ((eps - noise.sqrt()) / signal.sqrt()).detach())

    def forward(self, x, time):
        return self.gain[time][:, None] * x


def closed_bound(gammas, rho, spread=SPREAD):
    """L_0 + ½ Σ (e^(γ_t − γ_{t−1}) − 1) E Var(ε|x_t) + L_T, nats (Kingma et al. 2021, eq. 14, and D. 1)."""
    missed = spread**2 / (spread**2 + gammas.exp())  # E(ε − E[ε|x_t])²
    last = 0.5 * (math.log(2 * math.pi) + gammas[0] + rho + missed[0] * torch.exp(-rho))
    steps = 0.5 * (torch.expm1(gammas.diff()) * missed[1:]).sum()
    noise = torch.sigmoid(gammas[-1])
    return last + steps + 0.5 * (noise - 1 - noise.log() + (1 - noise) * spread**2)


def four_points(timesteps):
    x_0 = SPREAD * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    eps = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    t = torch.arange(1, timesteps + 1).repeat_interleave(4)
    return x_0[:, None].repeat(timesteps, 1), t, eps[:, None].repeat(timesteps, 1)


def bent(timesteps=7):
    """A learned schedule away from its start, in float64."""
    schedule = MonotoneSchedule(timesteps, 5, -3.0, 4.0).double()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    return schedule


def gradients(value, module):
    module.zero_grad()
    value.backward()
    return [parameter.grad.clone() for parameter in module.parameters()]


def exact_gradients(schedule, scheduled):
    value = closed_bound(schedule.gammas(), scheduled.rho)
    return value.item(), gradients(value, scheduled)


def test_the_bound_and_its_gradient_are_exact():
    """Catches a gradient that leaves out x_t's, the prior's or the decoder's part, and a bound without one of them."""
    schedule = bent()
    scheduled = Scheduled(Best(schedule.gammas()), schedule).double()
    with torch.no_grad():
        scheduled.rho.fill_(-0.2)
    value = bound(scheduled.model(), *four_points(7))
    result = gradients(value, scheduled)
    wanted, exact = exact_gradients(schedule, scheduled)
    assert value.item() == pytest.approx(wanted, abs=1e-12)
    for a, b in zip(result, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    assert max(each.abs().max() for each in exact) > 0.1


def test_a_gradient_that_stops_at_x_t_is_wrong():
    """What the test above would miss if x_t carried no gradient of its own: it does, so the test says something."""
    schedule = bent()
    scheduled = Scheduled(Best(schedule.gammas()), schedule).double()
    model = scheduled.model()
    noise = model.process.noise
    model.process.noise = lambda *arguments: noise(*arguments).detach()
    result = gradients(bound(model, *four_points(7)), scheduled)
    _, exact = exact_gradients(schedule, scheduled)
    assert max((a - b).abs().max() for a, b in zip(result, exact, strict=True)) > 0.01


def test_infinitely_many_steps_forget_the_schedule():
    """Kingma et al. 2021, §5.1: only the ends matter then, and with 10 steps the inside matters as well."""

    def of(timesteps, power):
        gammas = -3 + 7 * torch.linspace(0, 1, timesteps, dtype=torch.float64) ** power
        scheduled = Scheduled(Best(gammas), FixedSchedule(betas_of(gammas))).double()
        return bound(scheduled.model(), *four_points(timesteps)).item()

    assert abs(of(10, 1) - of(10, 3)) > 0.04
    assert abs(of(4000, 1) - of(4000, 3)) < 4e-4


def test_the_estimate_is_the_libraries_bound():
    """On one and the same noise, ``bound`` is what ``bound_table`` says of the image-less model, to the last digits."""
    schedule = MonotoneSchedule(5, 4, -3.0, 4.0)
    scheduled = Scheduled(Best(schedule.gammas()), schedule).double()
    x_0 = torch.randn(6, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eps = image_noise(x_0, range(6), 5, (3, "nll")).flatten(0, 1)
    t = torch.arange(1, 6).repeat_interleave(6)
    model = scheduled.model()
    result = bound(model, x_0.repeat(5, 1), t, eps)
    assert result.item() == pytest.approx(bound_table(model, x_0, seed=3)[0].sum(0).mean().item(), rel=1e-9)


class Gains(nn.Module):
    """A linear denoiser that learns."""

    def __init__(self, timesteps):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(timesteps))

    def forward(self, x, time):
        return self.gain[time][:, None] * x


def test_learning_reaches_the_best_schedule():
    """The whole training, by the engine's loop: at the end the schedule's closed bound is near the least there is."""
    from reproduction.gallery.fitting import fit

    timesteps, linear = 6, gammas_of(betas(6, "linear", 0.02, 0.8))
    schedule = MonotoneSchedule(timesteps, 8, linear[0].item(), linear[-1].item())
    scheduled = Scheduled(Gains(timesteps), schedule)
    x_0, t, eps = (each if each.dtype == torch.int64 else each.float() for each in four_points(timesteps))
    optimizer = Optimizer(lr=0.02, warmup=0, clip=1.0, ema_decay=0.9)
    averaged = fit(scheduled, lambda _: bound(scheduled.model(), x_0, t, eps), 300, optimizer, "test")
    result = closed_bound(averaged.schedule.gammas(), averaged.rho.double()).item()
    free = linear.clone().requires_grad_()
    rho = torch.zeros((), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([free, rho], max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        value = closed_bound(free, rho)
        value.backward()
        return value

    solver.step(closure)
    least, start = closed_bound(free, rho).item(), closed_bound(linear, rho).item()
    assert start - least > 0.1
    assert least - 1e-6 < result < least + 0.05 * (start - least)


class Wrong(nn.Module):
    """v of 100 at one time, 0 at the others."""

    def __init__(self, wrong=None):
        super().__init__()
        self.wrong = wrong

    def forward(self, x, time):
        return torch.zeros_like(x) if self.wrong is None else 100.0 * (time == self.wrong)[:, None] + 0 * x


@pytest.mark.parametrize("wrong", range(5))
def test_times_of_a_step_are_spread_evenly(wrong):
    """Every step sees every t when the batch is a multiple of T: a network that is wrong at one is always noticed."""
    scheduled = Scheduled(Wrong(wrong), FixedSchedule(betas(5, "linear", 0.05, 0.5)))
    loss = bound_loss(scheduled, lambda step: torch.zeros(10, 2), 10, 0, "test")
    assert min(loss(step).item() for step in range(5)) > 50


# The station.


def settings():
    network = {"block_out_channels": [4, 4], "attention": [False, False], "layers_per_block": 1}
    return Schedules(
        seeds=[0, 1],
        timesteps=5,
        beta_start=0.05,
        beta_end=0.7,
        units=4,
        points={
            "problem": "2spirals",
            "hidden": 4,
            "layers": 1,
            "steps": 3,
            "batch": 10,
            "optimizer": OPTIMIZER,
            "test": 20,
        },
        images={
            "network": {**network, "norm_num_groups": 2, "dropout": 0.0},
            "steps": 2,
            "batch": 5,
            "optimizer": OPTIMIZER,
            "test": 6,
        },
    )


def images():
    draw = torch.Generator().manual_seed(3)
    train, test = (torch.randint(17, (n, 1, 4, 4), generator=draw, dtype=torch.uint8) for n in (12, 6))
    return SimpleNamespace(train_images=train, test_images=test, levels=17, shape=(1, 4, 4))


@pytest.fixture(scope="module")
def result():
    return schedules.Schedules.run(settings(), SimpleNamespace(images=images()))


def test_the_station_is_a_function_of_its_settings(result):
    again = schedules.Schedules.run(settings(), SimpleNamespace(images=images()))
    assert again.quantities == result.quantities and again.details == result.details
    assert all(torch.equal(again.tensors[name], value) for name, value in result.tensors.items())


def test_differences_are_paired(result):
    for start in ("points", "images"):
        of = {name: result.quantities[f"{start}_{name}"].values for name in schedules.SCHEDULES}
        for other in ("linear", "cosine"):
            difference = result.quantities[f"{start}_learned_minus_{other}"]
            assert isinstance(difference, Quantity) and len(difference.values) == 2
            assert difference.values == [a - b for a, b in zip(of["learned"], of[other], strict=True)]
        for name in schedules.SCHEDULES:
            terms = result.tensors[f"{start}.{name}.terms"]
            assert terms.sum(1).tolist() == pytest.approx(of[name])


def test_only_the_learned_schedule_moves(result):
    fixed = betas(5, "linear", 0.05, 0.7)
    for start in ("points", "images"):
        assert torch.equal(result.tensors[f"{start}.linear.betas"], fixed.expand(2, -1))
        assert not torch.allclose(result.tensors[f"{start}.learned.betas"][0], fixed, atol=1e-3)


def test_points_are_measured_in_the_datas_units():
    """A model whose bound is known. Catches a Jacobian of the wrong sign, or one a coordinate."""
    chosen = settings().model_dump()
    chosen["points"]["test"] = 1500
    start = schedules.Points(Schedules(**chosen))
    table = betas(5, "linear", 0.05, 0.7)
    silent = Scheduled(Wrong(), FixedSchedule(table))  # v = 0: ε = √(1 − ᾱ_t) x
    result = start.terms(silent).sum(0).mean().item()
    # Every term is quadratic in x_0, whose coordinates have mean 0 and variance 1: as of Gaussian data.
    of_a_coordinate = closed_bound(gammas_of(table), torch.zeros(()), spread=1.0).item()
    jacobian = start.problem.std.log().sum().item()
    assert jacobian > 0.5  # or the sign could be wrong
    assert result == pytest.approx(2 * of_a_coordinate + jacobian, abs=0.4)


def test_the_figure_and_the_table(result):
    import json

    from reproduction.gallery.report.stations import schedules as drawn

    seen = SimpleNamespace(
        settings=settings().model_dump(mode="json"),
        quantities=json.loads(json.dumps({k: v.as_json() for k, v in result.quantities.items()})),
        details=result.details,
        tensors={name: value.detach().numpy() for name, value in result.tensors.items()},
    )
    assert len(drawn.plot(seen).axes) == 8
    table = drawn.table(seen)
    assert table["schedule"].tolist() == 2 * ["linear", "cosine", "learned"]
    parts = table["L_0"] + table["L_1 … L_T−1"] + table["L_T"]
    assert parts.tolist() == pytest.approx(table["bound on the NLL"].tolist())
    assert "Learned minus linear" in drawn.caption(seen)
