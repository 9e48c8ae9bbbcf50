"""What every source of images gives, its two files, and the way from levels to [−1, 1] and back."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensors_to

from mlegfn.artifacts import StrPath, read_json, write_bytes, write_json
from mlegfn.errors import UserError

__all__ = ["Images", "load_images", "pixels_sha256", "save_images", "scale_to_unit", "to_levels"]

TENSORS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Images:
    """Two splits of images as integer levels.

    ``train_images``, ``test_images``: uint8 [N, C, H, W], values 0 … ``levels`` − 1;
    ``train_labels``, ``test_labels``: int64 [N], values 0 … ``classes`` − 1;
    ``label``: the data's name in tables and figures; ``source``: the module that gave it.
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    levels: int
    label: str
    classes: int
    source: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return tuple(self.train_images.shape[1:])

    @cached_property
    def record(self) -> dict[str, object]:
        """What dataset.json says of these images: where from, how many, of what shape, and their hashes."""
        return {
            "source": self.source,
            "label": self.label,
            "levels": self.levels,
            "shape": list(self.shape),
            "train": len(self.train_labels),
            "test": len(self.test_labels),
            "classes": self.classes,
            "sha256_train": pixels_sha256(self.train_images),
            "sha256_test": pixels_sha256(self.test_images),
        }

    def limited(self, train: int | None = None, test: int | None = None) -> "Images":
        """The first ``train`` and ``test`` images; None = all."""
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )

    def split(self, validation: int, draw: torch.Generator) -> "tuple[Images, torch.Tensor]":
        """(These images without ``validation`` of the training images, those images uint8 [validation, C, H, W]).

        Which ones is drawn by ``draw``; the others keep their order. ValueError where none would be left to train on.
        """
        count = len(self.train_images)
        if not 0 < validation < count:
            raise ValueError(f"cannot set {validation} of {count} training images aside")
        held = torch.zeros(count, dtype=torch.bool)
        held[torch.randperm(count, generator=draw)[:validation]] = True
        kept = replace(self, train_images=self.train_images[~held], train_labels=self.train_labels[~held])
        return kept, self.train_images[held]


def scale_to_unit(images: torch.Tensor, levels: int) -> torch.Tensor:
    """Levels to the network's range: x = 2k/(levels − 1) − 1, float32 in [−1, 1], on the same device.

    :param images: uint8 tensor of any shape, values 0 … levels − 1
    """
    _check_levels(levels)
    if images.dtype != torch.uint8:
        raise ValueError(f"levels must be uint8, not {images.dtype}")
    # Multiply before the division: the extremes are then exactly ±1 and the middle exactly 0.
    return images.float() * 2 / (levels - 1) - 1


def to_levels(x: torch.Tensor, levels: int) -> torch.Tensor:
    """The nearest level of each value, clipped to the range: the inverse of :func:`scale_to_unit`, uint8."""
    _check_levels(levels)
    if not torch.isfinite(x).all():
        raise ValueError("values must be finite to have a nearest level")
    return ((x + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1).to(torch.uint8)


def _check_levels(levels: int) -> None:
    if not 2 <= levels <= 256:
        raise ValueError(f"levels must be from 2 to 256, not {levels}")


def pixels_sha256(images: torch.Tensor) -> str:
    """Hex SHA-256 of the levels in memory order [N, C, H, W]."""
    return hashlib.sha256(images.contiguous().numpy().data).hexdigest()


def save_images(images: Images, folder: StrPath) -> None:
    """Write ``images.safetensors`` and ``dataset.json``; equal images give equal bytes."""
    folder = Path(folder)
    content = tensors_to({name: getattr(images, name).contiguous() for name in TENSORS})
    write_bytes(folder / "images.safetensors", content)
    write_json(folder / "dataset.json", {**images.record, "sha256_file": hashlib.sha256(content).hexdigest()})


def load_images(folder: StrPath) -> Images:
    """The images that :func:`save_images` wrote into ``folder``, verified.

    :raises UserError: if a file is missing, truncated or altered; it names the file, and both hashes
    """
    folder = Path(folder)
    file = folder / "images.safetensors"
    dataset = read_json(folder / "dataset.json")
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file}: not found") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    altered = UserError(f"{folder / 'dataset.json'}: altered, or written by another version")
    try:
        expected = dataset.pop("sha256_file")
        settings = {name: dataset[name] for name in ("levels", "label", "classes", "source")}
    except (KeyError, TypeError, AttributeError):
        raise altered from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(f"{file}: altered or truncated: SHA-256 expected {expected}, found {found}")
    try:
        tensors = tensors_from(content)
        images = Images(*(tensors[name] for name in TENSORS), **settings)  # type: ignore[arg-type]  # four of them
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{file}: no file of images ({error})") from None
    if images.record != dataset:
        raise altered
    return images
