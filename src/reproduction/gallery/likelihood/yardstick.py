"""How far samples are from test images, beside what training images score."""

import torch

from mlegfn.data import scale_to_unit
from mlegfn.quality.sliced import sliced_wasserstein, unit_directions
from mlegfn.randomness import generator

__all__ = ["Yardstick"]


class Yardstick:
    """Sliced Wasserstein distances to ``count`` test images of a scale, for samples [count, C, H, W] in [−1, 1].

    The directions and the training images of ``floor`` are functions of the seed: models that are compared with one
    another have to share it. ValueError if the scale has fewer than ``count`` test or training images.
    """

    def __init__(self, images, count, projections, seed):
        available = min(len(images.test_images), len(images.train_images))
        if count > available:
            raise ValueError(f"{count} samples cannot be compared with as many images, there are {available}")
        self.images, self.count, self.seed = images, count, seed
        self.test = scale_to_unit(images.test_images[:count], images.levels).flatten(1)
        self.directions = unit_directions(self.test.shape[1], projections, generator(seed, "directions"))

    def distance(self, samples):
        """A float, in the units of the pixels; samples are clamped to [−1, 1] first."""
        return sliced_wasserstein(samples.clamp(-1, 1).flatten(1), self.test, self.directions)

    def floor(self):
        """The distance of ``count`` training images: what perfect samples would score."""
        rows = torch.randperm(len(self.images.train_images), generator=generator(self.seed, "floor"))
        return self.distance(scale_to_unit(self.images.train_images[rows[: self.count]], self.images.levels))
