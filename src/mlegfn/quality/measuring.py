"""A model's samples against test images, each number beside its floor: training images against the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from mlegfn.data.images import Images, scale_to_unit, to_levels
from mlegfn.diffusion.sampling import generate
from mlegfn.quality.inception import frechet, inception_features, inception_score, read_inception
from mlegfn.quality.sliced import patches, sliced_wasserstein, unit_directions
from mlegfn.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from mlegfn.diffusion.model import DenoisingModel

__all__ = ["draw", "measure"]

BLOCK = 256  # samples drawn at once, from a generator of their own
PATCH = 4  # pixels; as wide as what a digit's stroke or a CIFAR-10 edge needs
PATCHES = 8  # of each image
FLOOR_DRAWS = 10


class QualitySettings(Protocol):
    """How samples are measured."""

    @property
    def samples(self) -> int: ...

    @property
    def projections(self) -> int:
        """Random directions of the sliced Wasserstein distance."""

    @property
    def seed(self) -> int: ...

    @property
    def inception(self) -> str | None:
        """The path of the Inception weights."""


def draw(
    model: DenoisingModel,
    count: int,
    shape: Sequence[int],
    levels: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """``count`` samples of ``model`` as images, uint8 [count, *shape]: nearest levels, clipped to the range.

    The noise of block i is a function of (seed, i), so models of one scale sample from equal noise.
    """
    blocks = []
    for index, start in enumerate(range(0, count, BLOCK)):
        noise = generator(seed, "quality", "samples", index)
        size = min(BLOCK, count - start)
        states, _ = generate(model, (size, *shape), columns=2, generator=noise, device=device)
        blocks.append(to_levels(states[-1], levels))
    return torch.cat(blocks)


def measure(
    sample: Callable[[int], Tensor],
    data: Images,
    settings: QualitySettings,
    device: torch.device | str = "cpu",
) -> dict[str, object]:
    """Sample quality of one model, as JSON has it.

    sample: ``sample(n)`` gives n of the model's images, uint8 [n, C, H, W] with ``data.levels`` levels
    data: ``data.images.Images``; the first n test images are compared with, n = ``settings.samples`` or as
        many as the smaller split has
    settings: an object with ``samples``, ``projections``, ``seed`` and ``inception``, the path of the Inception
        weights or None: FID and Inception Score are None then

    The floor is the same measurement with n training images for samples, drawn ``FLOOR_DRAWS`` times: what
    perfect samples of the training distribution give, and how much that number scatters from set to set.
    It depends on data and settings alone.

    :raises UserError: for an Inception file that is not the one, before anything is sampled
    """
    network = read_inception(settings.inception, device) if settings.inception else None
    count = min(settings.samples, len(data.test_images), len(data.train_images))
    test = data.test_images[:count]
    distances = Distances(test, data.levels, settings, device)
    orders = [
        torch.randperm(len(data.train_images), generator=generator(settings.seed, "quality", "floor", k))
        for k in range(FLOOR_DRAWS)
    ]
    training = [data.train_images[order[:count]] for order in orders]
    drawn = [distances(images) for images in training]
    samples = sample(count)
    own, floor = distances(samples), {key: spread([distance[key] for distance in drawn]) for key in drawn[0]}
    scores: dict[str, object]
    lowest: dict[str, object]
    if network is None:
        scores = lowest = {"fid": None, "inception_score": None}
    else:
        reference, _ = inception_features(network, test, data.levels)
        scores, lowest = (
            against(network, images, data.levels, reference) for images in (samples, training[0])
        )
    return {
        "images": count,
        "projections": settings.projections,
        "patch": distances.size,
        "patches_per_image": PATCHES,
        "sliced_wasserstein": own,
        **scores,
        "floor": {"draws": FLOOR_DRAWS, "sliced_wasserstein": floor, **lowest},
    }


class Distances:
    """Sliced Wasserstein distances of sets of images to one set, with equal directions and equal patches."""

    def __init__(
        self, reference: Tensor, levels: int, settings: QualitySettings, device: torch.device | str
    ) -> None:
        self.levels, self.seed, self.device = levels, settings.seed, device
        self.size = min(PATCH, *reference.shape[2:])
        self.reference = self.vectors(reference)
        self.directions = {
            key: unit_directions(
                x.shape[1], settings.projections, generator(self.seed, "quality", "directions", key)
            )
            for key, x in self.reference.items()
        }

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """``{"pixels": [n, C·H·W], "patches": [n·PATCHES, C·size²]}`` in [−1, 1] of uint8 images."""
        x = scale_to_unit(images.to(self.device), self.levels)
        places = generator(self.seed, "quality", "patches")
        return {"pixels": x.flatten(1), "patches": patches(x, self.size, PATCHES, places)}

    def __call__(self, images: Tensor) -> dict[str, float]:
        """``{"pixels": distance, "patches": distance}`` of as many images as the reference has."""
        return {
            key: sliced_wasserstein(x, self.reference[key], self.directions[key])
            for key, x in self.vectors(images).items()
        }


def spread(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation of a list, as JSON has them."""
    table = torch.tensor(values, dtype=torch.float64)
    return {"mean": table.mean().item(), "standard_deviation": table.std().item()}


def against(network: nn.Module, images: Tensor, levels: int, reference: Tensor) -> dict[str, object]:
    """FID of images to a reference's features, and their Inception Score."""
    features, logits = inception_features(network, images, levels)
    return {"fid": frechet(features, reference), "inception_score": inception_score(logits)}
