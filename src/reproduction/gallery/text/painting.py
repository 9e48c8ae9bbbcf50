"""Scenes from captions: real digits, placed, scaled, inverted."""

import torch
from torch.nn import functional as F

from reproduction.gallery.text.captions import DIGITS, scenes

__all__ = ["HIGH", "LOW", "Painter", "painters", "reduce"]

HIGH, LOW = 32, 8  # pixels of a scene, and of its reduced version
SIDES = (16, 24)  # of a digit's tile, by size
PAIR = 16


class Painter:
    """Draws scenes with the digits of one split.

    images uint8 [M, 1, H, H] with ``levels`` grey values; labels int64 [M]. Every class must occur.
    """

    def __init__(self, images, labels, levels):
        if images.ndim != 4 or images.shape[1] != 1:
            raise ValueError(f"scenes are made of grey digits [M, 1, H, H], not of {list(images.shape)}")
        self.counts = torch.bincount(labels, minlength=len(DIGITS))
        if len(self.counts) > len(DIGITS) or not (self.counts > 0).all():
            raise ValueError(f"scenes need digits of every class 0…9, got {self.counts.tolist()} of each")
        self.images = images[labels.argsort(stable=True)].float() / (levels - 1)
        self.starts = self.counts.cumsum(0) - self.counts
        self.digits, self.sides, self.low, self.high, self.dark = tables()

    def draw(self, rows, generator):
        """float32 [N, 1, 32, 32] in [−1, 1]: a scene for each caption of ``rows`` (indices into ``scenes()``); which
        digit of its class, and where exactly, are drawn."""
        digits, side = self.digits[rows], self.sides[rows]  # [N, 2], [N]
        chance = torch.rand(digits.shape, generator=generator)
        which = self.starts[digits] + (chance * self.counts[digits]).long()
        low, high = self.low[rows], self.high[rows]
        corner = low + torch.rand(low.shape, generator=generator) * (high - low)  # [N, 2, (y, x)]
        ink = paste(self.images[which].flatten(0, 1), corner.flatten(0, 1), side.repeat_interleave(2))
        ink = ink.view(len(digits), 2, HIGH, HIGH) * (digits >= 0)[:, :, None, None]
        scene = 2 * ink.amax(1, keepdim=True) - 1
        return torch.where(self.dark[rows][:, None, None, None], -scene, scene)


def painters(images):
    """(of the training split's digits, of the test split's) of ``Inputs.images``."""
    return (
        Painter(images.train_images, images.train_labels, images.levels),
        Painter(images.test_images, images.test_labels, images.levels),
    )


def reduce(scene):
    """[N, 1, 32, 32] → [N, 1, 8, 8]: means of 4×4 pixels, what a cascade's first model learns."""
    return F.avg_pool2d(scene, HIGH // LOW)


def paste(tiles, corner, side):
    """[M, 32, 32]: tiles [M, 1, H, H], stretched bilinearly to ``side`` [M] pixels with their corner [M, (y, x)] there."""
    centres = torch.arange(HIGH) + 0.5
    place = (
        2 * (centres[None, None] - corner[:, :, None]) / side[:, None, None] - 1
    )  # [M, 2, 32]; the tile is [−1, 1]
    y = place[:, 0, :, None].expand(-1, -1, HIGH)
    x = place[:, 1, None, :].expand(-1, HIGH, -1)
    return F.grid_sample(tiles, torch.stack([x, y], -1), padding_mode="zeros", align_corners=False)[:, 0]


def tables():
    """digits [C, 2] (−1: none), tile sides [C], lowest and highest corners [C, 2, (y, x)], dark [C], of ``scenes()``."""
    digits, sides, low, high = [], [], [], []
    for scene in scenes():
        digits.append([*scene.digits, -1][:2])
        if scene.relation is None:
            side = SIDES[scene.size]
            slack = HIGH - side
            sides.append(side)
            # Within an eighth of the room there is from its edge, and as far from the middle along that edge.
            edge = [(0, slack / 8), (7 * slack / 8, slack)][scene.place % 2]
            along = (3 * slack / 8, 5 * slack / 8)
            (y0, y1), (x0, x1) = (along, edge) if scene.place < 2 else (edge, along)
            low.append([[y0, x0]] * 2)
            high.append([[y1, x1]] * 2)
        else:
            sides.append(PAIR)
            along, first, second = (6, 10), (0, 1), (PAIR - 1, PAIR)
            spans = (
                [(along, first), (along, second)]
                if scene.relation == 0
                else [(first, along), (second, along)]
            )
            low.append([[y[0], x[0]] for y, x in spans])
            high.append([[y[1], x[1]] for y, x in spans])
    return (
        torch.tensor(digits),
        torch.tensor(sides, dtype=torch.float32),
        torch.tensor(low, dtype=torch.float32),
        torch.tensor(high, dtype=torch.float32),
        torch.tensor([scene.dark for scene in scenes()]),
    )
