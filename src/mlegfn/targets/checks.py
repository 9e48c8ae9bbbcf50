"""What all targets refuse, in the same words."""

from torch import Tensor

__all__ = ["LARGEST", "legal", "listable", "state_tensor"]

LARGEST = 2**20  # states that are listed at most


def listable(count: int, what: str) -> None:
    if count > LARGEST:
        raise ValueError(f"{count} {what} are too large a number to list, {LARGEST} are the most")


def state_tensor(x: Tensor, width: int, what: str) -> None:
    if x.ndim != 2 or x.shape[1] != width or x.is_floating_point():
        raise ValueError(f"{what} are int64 [N, {width}], not {x.dtype} {tuple(x.shape)}")


def legal(action: Tensor, possible: Tensor, problem: str) -> None:
    """``action`` [N] picks true entries of ``possible`` [N, A−1], or ValueError."""
    if (action >= possible.shape[1]).any() or not possible.gather(1, action[:, None]).all():
        raise ValueError(f"an action {problem}, or is the stop")
