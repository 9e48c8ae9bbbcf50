"""Small folders as diffusers writes them, images for them, and the commands that read them."""

import json

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image

from mlegfn import cli

STEPS = {"num_train_timesteps": 6, "beta_start": 0.05, "beta_end": 0.7}
SMALL = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
UNET, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"


def unet(seed=0, **changes):
    torch.manual_seed(seed)
    return UNet2DModel(**(SMALL | changes))


def save(folder, scheduler=None, network=None):
    DDPMPipeline(network or unet(), scheduler or DDPMScheduler(**STEPS)).save_pretrained(folder)
    return folder


def stock_folder(parent):
    """A folder that diffusers wrote."""
    return save(parent / "ddpm", DDPMScheduler(**STEPS, variance_type="fixed_large"))


def grey_images(parent):
    """A folder of grey images of 8×8 in 256 levels, three to train on and three to test."""
    root = parent / "grey"
    for index, name in enumerate(("train", "test")):
        (root / name / "a").mkdir(parents=True)
        for k in range(3):
            levels = np.random.default_rng(10 * index + k).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(levels).save(root / name / "a" / f"{k}.png")
    return root


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def nll(folder, out, *more):
    """What `mlegfn nll --json` wrote."""
    assert run("nll", folder, "--json", out, *more) == 0
    return json.loads(out.read_text())


def last_error(capsys):
    """The one line that stderr ends with, after the progress bars."""
    shown = capsys.readouterr().err
    lines = [line for part in shown.split("\r") for line in part.splitlines() if line.startswith("mlegfn: ")]
    assert len(lines) == 1 and shown.endswith(lines[0] + "\n") and "Traceback" not in shown
    return lines[0]


def written(name, text):
    return lambda folder: (folder / name).write_text(text)


def entries(name, **values):
    def change(folder):
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change
