"""Images that stay on the device as integer levels, for training without copies from the host."""

import torch
from torch import Tensor

from mlegfn.data.images import scale_to_unit
from mlegfn.randomness import onto

__all__ = ["Resident", "unit_images"]


class Resident:
    """uint8 levels [N, C, H, W] on the device; indexing gives float32 images in [−1, 1].

    It takes a quarter of the memory of the images themselves.
    """

    def __init__(self, levels_images: Tensor, levels: int, device: torch.device | str) -> None:
        self.levels_images, self.levels = onto(device, levels_images), levels
        self.device, self.shape = torch.device(device), levels_images.shape

    def __len__(self) -> int:
        return len(self.levels_images)

    def __getitem__(self, rows: Tensor | slice | int) -> Tensor:
        return scale_to_unit(self.levels_images[rows], self.levels)


def unit_images(levels_images: Tensor, levels: int, device: torch.device | str) -> Tensor:
    """uint8 levels [N, C, H, W] → float32 in [−1, 1] on ``device``."""
    return scale_to_unit(levels_images, levels).to(device)
