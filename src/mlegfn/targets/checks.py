"""What all targets refuse, in the same words."""

__all__ = ["LARGEST", "legal", "listable", "state_tensor"]

LARGEST = 2**20  # states that are listed at most


def listable(count, what):
    if count > LARGEST:
        raise ValueError(f"{count} {what} are too large a number to list, {LARGEST} are the most")


def state_tensor(x, width, what):
    if x.ndim != 2 or x.shape[1] != width or x.is_floating_point():
        raise ValueError(f"{what} are int64 [N, {width}], not {x.dtype} {tuple(x.shape)}")


def legal(action, possible, problem):
    """``action`` [N] picks true entries of ``possible`` [N, A−1], or ValueError."""
    if (action >= possible.shape[1]).any() or not possible.gather(1, action[:, None]).all():
        raise ValueError(f"an action {problem}, or is the stop")
