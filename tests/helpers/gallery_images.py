"""Small settings and inputs for the tests of the gallery's stations on images: digits, and networks of a few steps."""

from types import SimpleNamespace

import torch

from mlegfn.data import digits
from reproduction.gallery.fitting import weights
from reproduction.gallery.images.model import build, process_of
from reproduction.gallery.settings import images as settings

NETWORK = {
    "block_out_channels": [8, 8],
    "attention": [False, False],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "dropout": 0.0,
}
CHAIN = {
    "network": NETWORK,
    "timesteps": 20,
    "beta_schedule": "linear",
    "beta_start": 0.005,
    "beta_end": 0.5,
}
OPTIMIZER = {"lr": 0.002, "warmup": 0, "clip": 1.0, "ema_decay": 0.9}
TINY = {
    "algorithms": settings.Algorithms(
        **CHAIN, seed=0, steps=2, batch=4, optimizer=OPTIMIZER, samples=6, parts=2, projections=5
    ),
    "progressive": settings.Progressive(seed=0, samples=4, times=5, images=4),
    "shared": settings.Shared(
        seeds=[0, 1], sampling_steps=8, fractions=[1.0, 0.5], starts=2, siblings=3, pairs=2, mixtures=3
    ),
    "inpainting": settings.Inpainting(
        seeds=[0, 1],
        images=6,
        known=["three_quarters", "quarter"],
        sampling_steps=6,
        jump=2,
        resamplings=2,
        projections=5,
        correlation=0.9,
        points=50,
        gaussian_resamplings=[1, 2],
    ),
    "guidance": settings.Guidance(
        **CHAIN,
        seed=0,
        steps=2,
        batch=4,
        optimizer=OPTIMIZER,
        label_dropout=0.5,
        seeds=[0, 1],
        weights=[-1.0, 0.0, 2.0],
        per_class=2,
        sampling_steps=4,
        projections=5,
    ),
}


class Inputs:
    """What a station reads, without any file: the digits, and an untrained network for ``algorithms``."""

    def __init__(self):
        self.images = digits.load()

    def settings(self, station):
        return TINY[station]

    def tensors(self, station):
        assert station == "algorithms"
        network = build(TINY["algorithms"], self.images.shape, 0)
        # Its last layer starts at zero; noise there makes a network of which something can be seen.
        with torch.no_grad():
            network.conv_out.weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
        return weights(network, "model")


def process():
    """The noising process of ``CHAIN``, T = 20."""
    return process_of(SimpleNamespace(**CHAIN))
