"""Checkpoints: Diffusers pipeline folders with our training state beside them. safetensors only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from mlegfn.artifacts import atomic_directory, read_json, write_json
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.diffusion.variances import analytic_log_variance, fixed_log_variance
from mlegfn.errors import UserError
from mlegfn.networks.unet import build_unet, reinitialise
from mlegfn.randomness import generator
from mlegfn.training.compute import ComputeSettings, fast_network, place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from mlegfn.artifacts import StrPath
    from mlegfn.training.state import TrainingState

__all__ = [
    "ModelSettings",
    "ProcessSettings",
    "build_network",
    "initial_network",
    "log_variance_of",
    "model_of",
    "process_of",
    "read_model",
    "read_state",
    "write_checkpoint",
]


class Block(Protocol):
    """A pydantic model."""

    def model_dump(self) -> dict[str, Any]: ...


class ProcessSettings(Protocol):
    """The noise schedule."""

    @property
    def timesteps(self) -> int: ...

    @property
    def beta_schedule(self) -> str: ...

    @property
    def beta_start(self) -> float: ...

    @property
    def beta_end(self) -> float: ...


class DiffusionSettings(ProcessSettings, Block, Protocol):
    """The noise schedule, and what is assumed of the way back."""

    @property
    def variance(self) -> str:
        """``large``, ``small``, ``analytic`` or ``learned``."""

    @property
    def decoder(self) -> str:
        """``exact`` or ``tanh``."""


class ModelSettings(Protocol):
    """A network, the process it denoises, and how it is computed."""

    @property
    def network(self) -> Block: ...

    @property
    def diffusion(self) -> DiffusionSettings: ...

    @property
    def compute(self) -> ComputeSettings: ...


def process_of(settings: ProcessSettings) -> GaussianDiffusion:
    """The noising process of ``settings`` (with ``timesteps``, ``beta_schedule``, ``beta_start``, ``beta_end``)."""
    return GaussianDiffusion(
        betas(settings.timesteps, settings.beta_schedule, settings.beta_start, settings.beta_end)
    )


def build_network(settings: ModelSettings, dataset: Mapping[str, Any]) -> nn.Module:
    """The U-Net of ``settings`` for images of ``dataset["shape"]`` [C, H, W], with torch's initial weights.

    ``settings``, here and below: an object with the attributes ``network`` (a pydantic model of ``build_unet``'s
    options), ``diffusion`` (a pydantic model: the schedule, ``variance`` and ``decoder``) and ``compute`` (as
    ``training.compute`` wants it).
    """
    channels, height, width = dataset["shape"]
    if height != width:
        raise UserError(
            f"the U-Net takes square images, but data {dataset['label']} is {height}×{width}; crop or resize them"
        )
    try:
        return build_unet(
            channels,
            height,
            learned_variance=settings.diffusion.variance == "learned",
            **settings.network.model_dump(),
        )
    except ValueError as error:
        raise UserError(f"network: {error}") from None


def log_variance_of(
    process: GaussianDiffusion, kind: str, errors: Tensor | Sequence[float] | None
) -> Tensor | None:
    """[T+1] log σ_t² of ``process`` for a variance kind, or None for ``learned``.

    errors [T of the network's chain]: E‖ε − ε_θ‖²/d, read at the process's own times.
    """
    if kind == "learned":
        return None
    if kind == "analytic":
        return analytic_log_variance(
            process, torch.as_tensor(errors, dtype=torch.float64)[process.network_times]
        )
    return fixed_log_variance(process, kind)


def initial_network(settings: ModelSettings, dataset: Mapping[str, Any], seed: int) -> nn.Module:
    """``build_network`` with DDPM's initialisation, a function of the seed."""
    return reinitialise(build_network(settings, dataset), generator(seed, "init"))


def model_of(
    network: nn.Module,
    settings: ModelSettings,
    levels: int | None,
    errors: Tensor | Sequence[float] | None = None,
) -> DenoisingModel:
    """P_F of a U-Net; ``errors`` as in ``log_variance_of``.

    Without them the analytic variances are unknown yet, and those of errors of 1, a network that
    predicts nothing, stand in: enough for what reads ε_θ alone.
    """
    process = process_of(settings.diffusion)
    errors = [1.0] * process.timesteps if errors is None else errors
    table = log_variance_of(process, settings.diffusion.variance, errors)
    function = fast_network(network, settings.compute)
    return DenoisingModel(function, process, table, levels, settings.diffusion.decoder)


def write_checkpoint(
    path: StrPath,
    state: TrainingState,
    settings: ModelSettings,
    dataset: Mapping[str, Any],
    errors: Tensor | Sequence[float] | None,
    with_training_state: bool = True,
) -> None:
    """Write the folder ``path`` at once: `DDPMPipeline.from_pretrained(path)` opens it (EMA weights).

    Beside diffusers' files stand ``mlegfn.json`` (step, data, schedule, the per-step errors behind the
    analytic variances) and ``training_state.safetensors`` (raw weights, EMA, Adam moments, step).
    A sampler of diffusers knows fixed variances only: its scheduler gets ``fixed_large`` or
    ``fixed_small``, so its samples are not those of the analytic or learned variances.
    """
    from diffusers import DDPMPipeline, DDPMScheduler
    from safetensors.torch import save_file

    averaged = build_network(settings, dataset)
    averaged.load_state_dict(state.ema_weights())
    process = process_of(settings.diffusion)
    scheduler = DDPMScheduler(
        num_train_timesteps=process.timesteps,
        trained_betas=process.beta[1:].tolist(),
        variance_type={"large": "fixed_large", "learned": "learned_range"}.get(
            settings.diffusion.variance, "fixed_small"
        ),
    )
    with atomic_directory(path) as folder:
        pipeline: Any = DDPMPipeline(unet=averaged, scheduler=scheduler)  # mypy sees diffusers' placeholder
        pipeline.save_pretrained(folder)
        if with_training_state:
            save_file(state.tensors(), folder / "training_state.safetensors")
        write_json(
            folder / "mlegfn.json",
            {
                "step": state.step,
                "dataset": dataset,
                "diffusion": settings.diffusion.model_dump(),
                "epsilon_errors": None if errors is None else [float(e) for e in errors],
            },
        )


def read_safetensors(path: StrPath) -> dict[str, Tensor]:
    """The tensors of a safetensors file; a missing or broken one is a UserError that names it."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error})") from None


def read_state(path: StrPath, state: TrainingState) -> dict[str, Any]:
    """Load the training state of checkpoint ``path`` into ``state``; returns its mlegfn.json."""
    record: dict[str, Any] = read_json(Path(path) / "mlegfn.json")
    flat = read_safetensors(Path(path) / "training_state.safetensors")
    try:
        state.load(flat)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: {error}; it was trained with another `network` block") from None
    return record


def read_model(path: StrPath, settings: ModelSettings, device: torch.device | str = "cpu") -> DenoisingModel:
    """The EMA network of checkpoint ``path`` as a ``DenoisingModel`` in eval mode."""
    path = Path(path)
    record = read_json(path / "mlegfn.json")
    network = build_network(settings, record["dataset"])
    weights = read_safetensors(path / "unet" / "diffusion_pytorch_model.safetensors")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise UserError(f"{path}: trained with another `network` block ({first})") from None
    if json.dumps(record["diffusion"], sort_keys=True) != json.dumps(
        settings.diffusion.model_dump(), sort_keys=True
    ):
        raise UserError(f"{path}: trained with another `diffusion` block; run again to retrain it")
    network = place(network.eval(), settings.compute, device)
    return model_of(network, settings, record["dataset"]["levels"], record["epsilon_errors"])
