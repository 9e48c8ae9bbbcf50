"""Small folders as diffusers writes them."""

import json

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

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


def written(name, text):
    return lambda folder: (folder / name).write_text(text)


def entries(name, **values):
    def change(folder):
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change
