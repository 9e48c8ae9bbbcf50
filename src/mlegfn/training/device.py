"""Which device a training or evaluation computes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from mlegfn.errors import UserError

if TYPE_CHECKING:
    import torch

__all__ = ["device_of"]


class Machine(Protocol):
    @property
    def accelerator(self) -> str:
        """``cpu`` or ``gpu``."""


class Compute(Protocol):
    @property
    def deterministic(self) -> bool: ...


class DeviceSettings(Protocol):
    """What a training or evaluation computes on, and whether bit for bit the same each time."""

    @property
    def machine(self) -> Machine: ...

    @property
    def compute(self) -> Compute: ...


def device_of(settings: DeviceSettings) -> torch.device:
    """The torch device of ``settings``, ready: this rank has met the others, and CUDA is as deterministic as
    ``settings.compute.deterministic`` says.

    ``settings.machine.accelerator`` is ``cpu`` or ``gpu``; a GPU where there is none is a UserError, unless the
    environment variable MLEGFN_ALLOW_CPU is 1.
    """
    import torch

    from mlegfn.training import distributed
    from mlegfn.training.compute import make_reproducible

    if settings.machine.accelerator == "gpu" and torch.cuda.is_available():
        make_reproducible(settings.compute.deterministic)
        if distributed.local_rank() >= torch.cuda.device_count():
            raise UserError(
                f"{distributed.size()} ranks, but {torch.cuda.device_count()} GPU(s) are visible here; "
                "start fewer ranks, or see CUDA_VISIBLE_DEVICES"
            )
        device = torch.device("cuda", distributed.local_rank())
        torch.cuda.set_device(device)
    elif settings.machine.accelerator == "cpu" or os.environ.get("MLEGFN_ALLOW_CPU") == "1":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        device = torch.device("cpu")
    else:
        raise UserError(
            "the settings ask for a GPU and torch finds none; MLEGFN_ALLOW_CPU=1 (--allow-cpu) lets the CPU do it"
        )
    distributed.join()
    return device
