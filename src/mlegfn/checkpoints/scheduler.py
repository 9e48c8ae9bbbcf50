"""A Diffusers scheduler's configuration as our noising process and reverse variance."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import torch

from mlegfn.checkpoints.layout import json_of
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from torch import Tensor

__all__ = ["Scheduler", "read_scheduler"]

PREDICTIONS = ("epsilon", "v_prediction", "sample")
VARIANCES = {
    "fixed_small": "small",
    "fixed_small_log": "small",
    "fixed_large": "large",
    "fixed_large_log": "large",
    "learned_range": "learned",
}


@dataclass(frozen=True)
class Scheduler:
    """``process``: float64 tables; ``prediction``: what the network puts out; ``variance``: large, small, learned
    or None (``variance_type`` is one that we do not read); ``clip``: ±range of x̂_0 in sampling, or None."""

    name: str
    process: GaussianDiffusion
    prediction: str
    variance_type: str | None
    variance: str | None
    clip: float | None


def read_scheduler(file: Path) -> Scheduler:
    """The ``Scheduler`` of scheduler_config.json; what it leaves out has its class's default.

    Any class with a β schedule will do (DDPM, DDIM, PNDM, …): they sample differently, but the network was
    trained on the same q(x_t | x_0). Only DDPM's names a reverse variance; for the others it is β̃_t, which
    DDIM's sampler has at η = 1.
    :raises UserError: one line naming the file and the entry
    """
    import diffusers

    config = json_of(file)
    name: Any = config.get("_class_name")
    # Only names of schedulers are looked up: others make diffusers import half of itself.
    known = isinstance(name, str) and name.endswith("Scheduler")
    cls = getattr(diffusers, name, None) if known else None
    parameters = inspect.signature(cls.__init__).parameters if inspect.isclass(cls) else {}
    if "beta_schedule" not in parameters:
        raise UserError(
            f"{file}: {name!r} has no β schedule, so this is no DDPM; its likelihood is not defined here"
        )

    def entry(key: str) -> Any:
        return config.get(key, parameters[key].default if key in parameters else None)

    prediction = entry("prediction_type") or "epsilon"
    if prediction not in PREDICTIONS:
        raise UserError(
            f"{file}: prediction_type {prediction!r} is not read; there are {', '.join(PREDICTIONS)}"
        )
    try:
        process = GaussianDiffusion(_betas(entry))
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{file}: {error}; likelihood and sampling need a schedule of such β") from None
    variance_type = entry("variance_type")
    limit = entry("clip_sample_range") or 1.0
    if type(limit) not in (int, float) or not 0 < limit <= 1e6:
        raise UserError(f"{file}: clip_sample_range {str(limit)[:40]} is no range of pixels; put 1.0")
    clip = float(limit) if entry("clip_sample") else None
    variance = "small" if variance_type is None else VARIANCES.get(str(variance_type))
    return Scheduler(name, process, prediction, variance_type, variance, clip)


def _betas(entry: Callable[[str], Any]) -> Tensor:
    """[T] float64 from the entries that diffusers' schedulers form their float32 tables of."""
    timesteps, trained = entry("num_train_timesteps"), entry("trained_betas")
    if isinstance(timesteps, bool) or not isinstance(timesteps, int) or not 1 <= timesteps <= 10**6:
        raise ValueError(f"num_train_timesteps is {timesteps!r}, not a number of steps")
    if entry("rescale_betas_zero_snr"):
        raise ValueError(
            "rescale_betas_zero_snr makes β_T one, where x_T says nothing of x_0 and ε cannot be had"
        )
    if trained is not None:
        if len(trained) != timesteps:
            raise ValueError(f"trained_betas has {len(trained)} entries for {timesteps} steps")
        return torch.tensor(trained, dtype=torch.float64)
    schedule, start, end = entry("beta_schedule"), entry("beta_start"), entry("beta_end")
    if schedule == "squaredcos_cap_v2":
        return betas(timesteps, "cosine")
    if not all(isinstance(value, Real) for value in (start, end)):
        raise ValueError(f"beta_start and beta_end are {start!r} and {end!r}, not numbers")
    if schedule == "linear":
        return betas(timesteps, "linear", start, end)
    if (
        schedule == "scaled_linear"
    ):  # the standard deviations √β are linear (Rombach et al. 2022, latent diffusion)
        if min(start, end) < 0:
            raise ValueError(f"beta_start and beta_end are {start} and {end}, not positive")
        return betas(timesteps, "linear", start**0.5, end**0.5) ** 2
    raise ValueError(
        f"beta_schedule {schedule!r} is not read; there are linear, scaled_linear, squaredcos_cap_v2 and trained_betas"
    )
