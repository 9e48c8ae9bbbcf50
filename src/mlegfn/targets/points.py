"""Targets over points of R^D: what they have, and what they refuse, in the same words."""

from typing import Protocol

from torch import Tensor

__all__ = ["BoxedReward", "PointTarget", "as_points"]


class BoxedReward(Protocol):
    """What a policy is trained on."""

    @property
    def box(self) -> tuple[Tensor, Tensor]:
        """(low [D], high [D]): nearly all of the target's mass is in it."""

    def log_reward(self, x: Tensor) -> Tensor:
        """[N, D] → float64 [N]: log R(x), nats."""


class PointTarget(BoxedReward, Protocol):
    """What it is compared with: the density is known, too."""

    @property
    def dimensions(self) -> int:
        """D."""

    def log_prob(self, x: Tensor) -> Tensor:
        """[N, D] → float64 [N]: the density log R(x)/Z, nats."""


def as_points(x: Tensor, dimensions: int) -> Tensor:
    """``x`` [N, D] in float64, or ValueError."""
    if x.ndim != 2 or x.shape[1] != dimensions or not x.is_floating_point():
        raise ValueError(f"points are float [N, {dimensions}], not {x.dtype} {tuple(x.shape)}")
    if not x.is_cuda and not x.detach().isfinite().all():  # on a GPU, looking would make the host wait
        raise ValueError("points hold values that are not finite")
    return x.double()
