"""Tiny stations on text for tests: settings that run in a second, real digits, an untrained CLIP."""

import importlib
from types import SimpleNamespace

import torch

from mlegfn.data import digits
from reproduction.drawing import style
from reproduction.gallery.fitting import initialised, weights
from reproduction.gallery.report import drawing as report
from reproduction.gallery.settings import text
from reproduction.gallery.text.encoders import Clip as Encoders
from reproduction.gallery.text.reading import captions
from reproduction.gallery.text.upsampling import upsampling_unet

OPTIMIZER = {"lr": 0.001, "warmup": 0, "clip": 1.0, "ema_decay": 0.9}
NETWORK = {
    "block_out_channels": [8, 16],
    "attention": [False, True],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "dropout": 0.0,
}
NOISING = {"timesteps": 20, "beta_schedule": "linear", "beta_start": 0.01, "beta_end": 0.5, "steps": 2}

CLIP = text.Clip(
    seeds=[0, 1, 2],
    split_seed=0,
    held_out=0.2,
    length=9,
    width=16,
    heads=2,
    layers=1,
    channels=[4, 8],
    embedding=16,
    temperature=0.07,
    steps=2,
    batch=8,
    optimizer=OPTIMIZER,
    rounds=1,
)
CASCADE = text.Cascade(
    seed=0,
    scenes=40,
    measuring=720,
    noising=NOISING,
    from_text={
        "network": NETWORK,
        "heads": 2,
        "untold": 0.1,
        "steps": 2,
        "batch": 4,
        "optimizer": OPTIMIZER,
    },
    upsampling={
        "network": {**NETWORK, "attention": [False, False]},
        "augmentation": 4,
        "steps": 2,
        "batch": 2,
        "optimizer": OPTIMIZER,
    },
    upsampling_steps=2,
    guidance=[0.0, 1.0],
    levels=[0, 2],
    level=2,
)
PRIOR = text.Prior(
    seed=0,
    scenes=40,
    measuring=720,
    noising=NOISING,
    transformer={
        "heads": 2,
        "width": 16,
        "layers": 1,
        "untold": 0.1,
        "steps": 2,
        "batch": 4,
        "optimizer": OPTIMIZER,
    },
    decoder={
        "network": {**NETWORK, "attention": [False, False]},
        "untold": 0.1,
        "steps": 2,
        "batch": 4,
        "optimizer": OPTIMIZER,
    },
    guidance_prior=1.0,
    guidance_decoder=1.0,
    candidates=2,
)


class TinyInputs:
    """What ``gallery.station.Inputs`` gives, without any file: CLIP is untrained unless ``made`` has its tensors."""

    def __init__(self, **made):
        self.images = digits.load()
        self.made = {
            "clip": weights(untrained_clip(), "clip"),
            "cascade": weights(upsampling_unet(CASCADE.upsampling.network), "upsampler"),
            **made,
        }
        self.block = SimpleNamespace(clip=CLIP, cascade=CASCADE, prior=PRIOR)

    def settings(self, station):
        return getattr(self.block, station)

    def tensors(self, station):
        return {name: torch.as_tensor(value) for name, value in self.made[station].items()}


def untrained_clip(seed=0, settings=CLIP):
    return initialised(lambda: Encoders(captions(settings).words, settings), seed, "clip").eval()


def drawn(name, result, settings):
    """The figure, caption and table of the station, as ``gallery.report.drawing`` makes them."""
    module = importlib.import_module(f"reproduction.gallery.report.stations.{name}")
    shown = SimpleNamespace(
        quantities={key: each.as_json() for key, each in result.quantities.items()},
        details=result.details,
        settings=settings.model_dump(mode="json"),
        tensors={key: each.detach().numpy() for key, each in result.tensors.items()},
    )
    assert style.draw(module.plot, shown)["png"].startswith(b"\x89PNG")
    assert module.caption(shown).endswith(".")
    table = module.table(shown) if hasattr(module, "table") else report.quantities(shown)
    assert len(table) and not table.isna().all(axis=0).any()
