"""Which device a stage computes on."""

import os

from mlegfn.errors import UserError

__all__ = ["device_of"]


def device_of(scale):
    """The torch device of a scale, ready: this rank has met the others, and CUDA is as deterministic as
    ``engine.deterministic`` says. A GPU scale without a GPU is a UserError unless --allow-cpu was given."""
    import torch

    from mlegfn.training import distributed
    from mlegfn.training.engine import make_reproducible

    if scale.accelerator == "gpu" and torch.cuda.is_available():
        make_reproducible(scale.engine.deterministic)
        if distributed.local_rank() >= torch.cuda.device_count():
            raise UserError(
                f"{distributed.size()} ranks, but {torch.cuda.device_count()} GPU(s) are visible here; "
                "lower RANKS, or see CUDA_VISIBLE_DEVICES"
            )
        device = torch.device("cuda", distributed.local_rank())
        torch.cuda.set_device(device)
    elif scale.accelerator == "cpu" or os.environ.get("MLEGFN_ALLOW_CPU") == "1":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        device = torch.device("cpu")
    else:
        raise UserError(
            "this scale needs a GPU and torch finds none; `mlegfn doctor` says why, --allow-cpu runs it on the CPU (days)"
        )
    distributed.join()
    return device
