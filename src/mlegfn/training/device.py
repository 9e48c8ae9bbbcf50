"""Which device a stage computes on."""

import os

from mlegfn.errors import UserError

__all__ = ["device_of"]


def device_of(scale):
    """The torch device of a scale. A GPU scale without a GPU is a UserError unless --allow-cpu was given."""
    import torch

    if scale.accelerator == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("MLEGFN_ALLOW_CPU") == "1":
        return torch.device("cpu")
    raise UserError(
        "this scale needs a GPU and torch finds none; `mlegfn doctor` says why, --allow-cpu runs it on the CPU (days)"
    )
