"""`mlegfn sample` on Diffusers folders: against diffusers' own pipeline on equal noise."""

import io

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from helpers.commands import run
from helpers.diffusers_folders import STEPS, save, stock_folder, unet
from PIL import Image

from mlegfn.randomness import generator


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder that diffusers wrote. Do not change it."""
    return stock_folder(tmp_path_factory.mktemp("stock"))


def test_samples_are_a_function_of_the_seed(stock, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / f"{name}.png"
        more = ["--npz", tmp_path / f"{name}.npz", "--count", 5, "--seed", seed]
        assert run("sample", stock, "--out", out, *more) == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    page = np.asarray(Image.open(io.BytesIO(a)))
    assert page.shape == (2 * 8 + 2, 3 * 8 + 2 * 2)  # five on two rows of three, two pixels apart
    samples = np.load(tmp_path / "a.npz")["arr_0"]
    assert samples.shape == (5, 8, 8, 1) and samples.dtype == np.uint8
    assert np.array_equal(page[10:, 10:18], samples[4, :, :, 0]) and (page[10:, 20:] == 255).all()


@pytest.mark.parametrize("clip", [True, False])
def test_sampling_is_diffusers_on_equal_noise(tmp_path, monkeypatch, clip):
    folder = save(tmp_path / "x", DDPMScheduler(**STEPS, variance_type="fixed_large"), unet(seed=1))
    arguments = [] if clip else ["--no-clip"]
    out, arrays = tmp_path / "s.png", tmp_path / "s.npz"
    assert run("sample", folder, "--out", out, "--npz", arrays, "--count", 3, *arguments) == 0
    draw = generator(0, "sample")
    noise = [torch.randn(3, 1, 8, 8, generator=draw) for _ in range(6)]
    pipeline = DDPMPipeline.from_pretrained(folder)
    pipeline.register_modules(
        scheduler=DDPMScheduler.from_config(pipeline.scheduler.config, clip_sample=clip)
    )
    pipeline.set_progress_bar_config(disable=True)
    draws = iter([*noise, torch.zeros(3, 1, 8, 8)])
    for module in ("schedulers.scheduling_ddpm", "pipelines.ddpm.pipeline_ddpm"):
        monkeypatch.setattr(f"diffusers.{module}.randn_tensor", lambda *_, **__: next(draws))
    theirs = pipeline(batch_size=3, num_inference_steps=6, output_type="np").images * 255
    ours = np.load(arrays)["arr_0"]
    assert np.abs(ours - theirs).max() < 0.51  # half a level is what rounding takes
    assert len(np.unique(ours)) > 20
