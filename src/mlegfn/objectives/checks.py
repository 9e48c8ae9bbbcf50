"""What every objective asks of its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["finite", "log_weights", "shapes"]


def log_weights(log_w: Tensor, least: int) -> None:
    """Refuse log-weights that are not [B, M] with M ≥ ``least`` finite entries."""
    if log_w.ndim != 2:
        raise ValueError(f"log_w must be [B, M] (images × trajectories), got shape {tuple(log_w.shape)}")
    if log_w.shape[1] < least:
        raise ValueError(f"log_w needs at least {least} trajectories an image, got {log_w.shape[1]}")
    # Looking would make the host wait for a GPU; there the training loop finds what is not finite, a little later.
    if not log_w.is_cuda and not log_w.detach().isfinite().all():
        raise ValueError("log_w holds values that are not finite")


def shapes(**wanted: tuple[Tensor, str]) -> dict[str, int]:
    """Refuse tensors of other shapes: ``shapes(log_flow=(log_flow, "N T+1"), log_pf=(log_pf, "N T"))``.

    A letter is a size, everywhere the same. Returns {letter: size}.
    """
    sizes: dict[str, int] = {}
    for name, (tensor, axes) in wanted.items():
        axes = axes.split()  # type: ignore[assignment]  # a list from here
        if tensor.ndim != len(axes):
            raise ValueError(f"{name} must be [{', '.join(axes)}], got shape {tuple(tensor.shape)}")
        for axis, size in zip(axes, tensor.shape):
            letter, _, more = axis.partition("+")
            if sizes.setdefault(letter, size - int(more or 0)) != size - int(more or 0):
                got = ", ".join(f"{n} {tuple(t.shape)}" for n, (t, _) in wanted.items())
                need = ", ".join(f"{n} [{a.replace(' ', ', ')}]" for n, (_, a) in wanted.items())
                raise ValueError(f"shapes do not match: {got}; wanted {need}")
    return sizes


def finite(**tensors: Tensor) -> None:
    """Refuse values that are not finite; a reward or flow of zero is called one."""
    for name, tensor in tensors.items():
        if tensor.is_cuda or tensor.detach().isfinite().all():  # on a GPU, looking would make the host wait
            continue
        if name in ("log_reward", "log_flow") and (tensor == -float("inf")).any():
            raise ValueError(
                f"{name} holds −∞: a reward or flow is zero, balance in logarithms needs them > 0"
            )
        raise ValueError(f"{name} holds values that are not finite")
