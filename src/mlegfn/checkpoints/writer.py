"""Write a fine-tuned network as a Diffusers folder, with the scheduler that it came with."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from mlegfn.artifacts import atomic_directory, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from torch import Tensor

    from mlegfn.artifacts import StrPath
    from mlegfn.checkpoints.reader import External

__all__ = ["write"]


def write(
    path: StrPath,
    external: External,
    weights: Mapping[str, Tensor],
    dataset: Mapping[str, object],
    errors: Tensor | Sequence[float] | None,
    story: Mapping[str, Any],
) -> None:
    """Write the folder ``path`` at once: `DDPMPipeline.from_pretrained(path)` opens it, and so does ``read``.

    The scheduler's file is copied byte for byte. mlegfn.json says what a scheduler of diffusers cannot: the
    variance with the errors [T] behind it (or None), the decoder, the data, and how it came about.

    :param weights: the U-Net's state dict
    :param dataset: ``Images.record`` of what it was trained on
    :param story: any JSON mapping, kept under ``finetune``
    """
    import diffusers

    config = {k: v for k, v in external.network.config.items() if k != "_name_or_path"}  # where it was read
    network = diffusers.UNet2DModel.from_config(config)
    network.load_state_dict(weights)
    with atomic_directory(path) as folder:
        network.save_pretrained(folder / "unet")
        (folder / "scheduler").mkdir()
        shutil.copyfile(external.layout.scheduler, folder / "scheduler" / "scheduler_config.json")
        index = {
            "_class_name": "DDPMPipeline",
            "_diffusers_version": diffusers.__version__,
            "scheduler": ["diffusers", external.scheduler.name],
            "unet": ["diffusers", "UNet2DModel"],
        }
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
        write_json(
            folder / "mlegfn.json",
            {
                "step": story["steps"],
                "dataset": dataset,
                "diffusion": {
                    **external.record.get("diffusion", {}),
                    "timesteps": external.scheduler.process.timesteps,
                    "variance": external.variance,
                    "decoder": external.decoder,
                },
                "epsilon_errors": None if errors is None else [float(e) for e in errors],
                "finetune": story,
            },
        )
