"""Station ``spiral``: the drift in closed form, joint paths, quantities that tell noise from data, the animation."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reproduction.gallery.points.problem import Problem
from reproduction.gallery.points.simple import model_of, simple_loss
from reproduction.gallery.report import spiral_animation
from reproduction.gallery.report.stations import spiral as drawn
from reproduction.gallery.settings.points import Spiral
from reproduction.gallery.stations import spiral

SETTINGS = Spiral(
    seeds=[0, 1],
    timesteps=12,
    beta_schedule="linear",
    beta_start=0.01,
    beta_end=0.5,
    hidden=8,
    layers=1,
    steps=3,
    batch=16,
    optimizer={"lr": 0.002, "warmup": 0, "clip": 1.0, "ema_decay": 0.5},
    samples=400,
    repeats=4,
    points=50,
    columns=6,
    frames=5,
    grid=6,
)


class Linear(torch.nn.Module):
    """ε = gain_t · x, with the gains [T] of a standard normal's data: √(1 − ᾱ_t)."""

    def forward(self, x, time):
        return model_of(None, SETTINGS).process.noise_std[1:][time][:, None].to(x.dtype) * x


def test_the_drift_of_normal_data_is_known():
    """x_t stays N(0, I), so E[x_{t−1}|x_t] = √α_t x_t. Catches a prefactor other than 1/√α_t, another coefficient of
    ε, and a displacement counted from the wrong side."""
    model = model_of(Linear(), SETTINGS)
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    for t in (1, 5, 12):
        wanted = (model.process.sqrt_alpha[t] - 1) * x
        torch.testing.assert_close(spiral.displacement(model, x, t), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("t", [0, 13])
def test_no_step_starts_there(t):
    with pytest.raises(ValueError, match="1…12"):
        spiral.displacement(model_of(Linear(), SETTINGS), torch.zeros(1, 2), t)


def test_the_loss_of_a_network_that_says_nothing():
    """E‖ε‖² a coordinate is 1; the same step gives the same loss, another step another."""
    silent = model_of(lambda x, time: torch.zeros_like(x), SETTINGS)
    loss = simple_loss(silent, Problem.named("swissroll"), 512, 0, "test")
    values = torch.stack([loss(step) for step in range(20)])
    assert abs(values.mean() - 1) < 5 * (2 / (20 * 1024)) ** 0.5
    assert loss(3) == values[3] and len(values.unique()) == 20


def test_units():
    """Catches units that a seed changes, or that are not undone."""
    problem = Problem.named("swissroll")
    points = problem.draw(20000, 5, "a")
    assert points.mean(0).abs().max() < 0.03 and (points.std(0) - 1).abs().max() < 0.03
    assert not torch.equal(points, problem.draw(20000, 5, "b"))
    x = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(problem.to_data((x - problem.mean) / problem.std), x)
    box = problem.std.prod().log()
    assert problem.log_jacobian == pytest.approx(-box.item(), abs=1e-6)
    with pytest.raises(ValueError, match="nothing"):
        Problem.named("nothing")


def test_off_the_curve():
    """The noise about the roll is normal with σ in both coordinates: within 3 σ lie at least 98.8 % of data."""
    problem = Problem.named("swissroll")
    data = problem.to_data(problem.draw(4000, 0, "test"))
    assert spiral.off_curve(data).double().mean() < 0.012
    assert spiral.off_curve(torch.tensor([[0.0, 0.0], [9.0, 9.0]])).all()


def test_quantities_tell_noise_from_data():
    """Catches a floor of other units or sizes, and a comparison of samples with themselves."""
    problem = Problem.named("swissroll")
    good = {seed: problem.draw(400, seed, "other") for seed in (0, 1)}
    bad = {seed: torch.randn(400, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)}
    good, bad = (spiral.compared(problem, each, SETTINGS) for each in (good, bad))
    assert max(good["above_floor"].values) < 0.3 and max(good["off_curve"].values) < 0.03
    assert min(bad["above_floor"].values) > 0.4 and min(bad["off_curve"].values) > 0.2
    assert min(bad["mmd"].values) > 3 * bad["mmd_floor"].values[0]


@pytest.fixture(scope="module")
def result():
    return spiral.Spiral.run(SETTINGS, None)


def test_the_station_is_a_function_of_its_settings(result):
    again = spiral.Spiral.run(SETTINGS, None)
    assert {name: value.values for name, value in again.quantities.items()} == {
        name: value.values for name, value in result.quantities.items()
    }
    assert all(torch.equal(again.tensors[name], value) for name, value in result.tensors.items())


def test_paths_are_joint(result):
    """One path a point. Drawing x_t anew for each t would leave the marginals as they are, and no correlation of the
    noise: here the noise in x_2 is a part of that in x_4."""
    assert result.details["shown"] == [0, 2, 4, 8, 12]
    process = model_of(None, SETTINGS).process
    start, second, fourth, *_ = result.tensors["data"].double()
    noise = [
        process.noise_of(start, x, torch.full((50,), t)).flatten() for x, t in ((second, 2), (fourth, 4))
    ]
    share = (process.alpha_bar[4] / process.alpha_bar[2]).sqrt() * process.noise_std[2] / process.noise_std[4]
    assert torch.corrcoef(torch.stack(noise))[0, 1] == pytest.approx(share.item(), abs=0.25)
    assert share > 0.35


def test_frames_end_where_the_figure_does(result):
    assert result.details["frames"][0] == 12 and result.details["frames"][-1] == 0
    assert torch.equal(result.tensors["frames"][-1], result.tensors["model"][0])
    assert torch.equal(result.tensors["frames"][0], result.tensors["model"][-1])
    assert torch.equal(result.tensors["frame_field"][-1], result.tensors["field"][0])


def test_columns_fit_into_the_chain():
    from mlegfn.errors import UserError
    from reproduction.settings.validation import validate

    with pytest.raises(UserError, match="columns: must be at most timesteps, 3"):
        validate(Spiral, {**SETTINGS.model_dump(), "timesteps": 3}, "params.yaml")


def arrays(result):
    return {name: value.numpy() for name, value in result.tensors.items()}


def test_the_figure(result):
    figure = drawn.plot(SimpleNamespace(details=result.details, tensors=arrays(result)))
    assert [axis.get_title() for axis in figure.axes[:5]] == [f"t = {t}" for t in (0, 2, 4, 8, 12)]


def test_colours_follow_the_distance_from_the_middle():
    assert drawn.colours(np.array([[3.0, 0], [0, 1], [0, -2]])).tolist() == [1, 0, 0.5]


def test_the_animation_is_equal_bytes_and_moves(result):
    from PIL import Image

    frames = spiral_animation.frames(arrays(result), result.details, SETTINGS.timesteps)
    assert len(frames) == len(result.details["frames"]) == 5
    assert all((a != b).any() for a, b in zip(frames, frames[1:]))
    content = spiral_animation.encode(frames)
    again = spiral_animation.encode(
        spiral_animation.frames(arrays(result), result.details, SETTINGS.timesteps)
    )
    assert content == again
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("WEBP", 5, 0)
        assert image.size == frames[0].shape[1::-1]
