"""The frames of the slider are the pixels of Figure 3."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest

from reproduction.drawing import style
from reproduction.images.report import figure3
from reproduction.site import frames


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32)])
def test_the_frames_are_the_pixels_of_the_states(channels, side, tmp_path, monkeypatch):
    from PIL import Image

    states = np.random.default_rng(0).uniform(-1.3, 1.3, (9, 6, channels, side, side))
    samples = {
        "trajectories": states,
        "times": frames.steps(50, 9),
        "samples": np.zeros((4, channels, side, side)),
    }
    folder = tmp_path / "results/some/images/figures"
    folder.mkdir(parents=True)
    (folder / "figure3.svg").write_bytes(style.draw(figure3.plot, samples, 256)["svg"])
    monkeypatch.chdir(tmp_path)
    settings = SimpleNamespace(
        diffusion=SimpleNamespace(timesteps=50), trajectories=SimpleNamespace(columns=9, shown=6)
    )
    slider = frames.read("some", settings, channels * side * side)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(slider["sprite"].split(",")[1]))))
    wanted = (
        np.round((np.clip(states, -1, 1) + 1) / 2 * 255)
        .transpose(1, 3, 0, 4, 2)
        .reshape(6 * side, 9 * side, -1)
    )
    assert np.abs(picture.astype(int) - wanted).max() <= 1
    settings.trajectories.shown = 5
    assert frames.read("some", settings, channels * side * side) is None


def test_the_times_are_those_that_sampling_keeps():
    import torch

    for timesteps, columns in ((50, 9), (1000, 9), (1000, 11), (7, 5)):
        kept = torch.linspace(timesteps, 0, columns).round().long().unique().flip(0)
        assert frames.steps(timesteps, columns) == kept.tolist()
