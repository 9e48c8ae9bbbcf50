"""Settings of a small image experiment, as library functions want them, without any settings file."""

import copy

NETWORKS = {
    "small": {
        "block_out_channels": [8, 8],
        "attention": [False, False],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "dropout": 0.0,
    },
    "ddpm": {
        "block_out_channels": [128, 256, 256, 256],
        "attention": [False, True, False, False],
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "dropout": 0.1,
    },
}


class Settings:
    """Attributes with the two methods of a pydantic model that the library and its tests call."""

    def __init__(self, **values):
        vars(self).update({k: Settings(**v) if isinstance(v, dict) else v for k, v in values.items()})

    def model_dump(self):
        return {k: v.model_dump() if isinstance(v, Settings) else v for k, v in vars(self).items()}

    def model_copy(self, update=None, deep=False):
        made = copy.deepcopy(self) if deep else copy.copy(self)
        vars(made).update(update or {})
        return made


def optimizer(**changes):
    return Settings(**{"lr": 0.002, "warmup": 2, "clip": 1.0, "ema_decay": 0.9, **changes})


def image_settings(architecture="small", **changes):
    """Images of 8×8 at T = 8, a training of a few steps. ``changes``: {block: {entry: value}}."""
    blocks = {
        "machine": {"accelerator": "cpu", "save_every_minutes": 1.0, "live": None},
        "compute": {
            "precision": "fp32",
            "evaluation": "fp32",
            "channels_last": False,
            "compile": "none",
            "cuda_graphs": False,
            "deterministic": True,
        },
        "network": NETWORKS[architecture],
        "diffusion": {
            "timesteps": 8,
            "beta_schedule": "linear",
            "beta_start": 0.01,
            "beta_end": 0.9,
            "variance": "analytic",
            "variance_samples": 16,
            "decoder": "exact",
        },
        "pretrain": {"seed": 0, "batch": 8},
        "finetune": {
            "batch": 8,
            "consistency": {
                "trajectories": 2,
                "images": 2,
                "chain": "full",
                "chain_steps": 8,
                "gradient": "exact",
                "gradient_steps": 4,
                "chunk": 1024,
                "weight": 0.0001,
                "weight_warmup": 0,
                "policy": "forward",
                "loss": "square",
                "huber_delta": 10.0,
                "per_dimension": False,
            },
        },
    }
    return Settings(**{name: {**block, **changes.get(name, {})} for name, block in blocks.items()})


def family_settings(**changes):
    """Settings with which any model family trains in a moment."""
    values = {
        "steps": 3,
        "batch": 8,
        "lr": 0.002,
        "hidden": 8,
        "timesteps": 3,
        "train_points": 64,
        "test_points": 16,
        "trajectories": 4,
    }
    return Settings(**{**values, **changes})
