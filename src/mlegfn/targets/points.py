"""What the targets over points of R^D refuse, in the same words."""

__all__ = ["as_points"]


def as_points(x, dimensions):
    """``x`` [N, D] in float64, or ValueError."""
    if x.ndim != 2 or x.shape[1] != dimensions or not x.is_floating_point():
        raise ValueError(f"points are float [N, {dimensions}], not {x.dtype} {tuple(x.shape)}")
    if not x.is_cuda and not x.detach().isfinite().all():  # on a GPU, looking would make the host wait
        raise ValueError("points hold values that are not finite")
    return x.double()
