"""Images that users bring: a folder, .zip or .tar.* laid out ``train/<class>/*.png|jpg``, ``test/<class>/…``."""

from __future__ import annotations

import io
import warnings
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch

from mlegfn.artifacts import expanded
from mlegfn.data.containers import files
from mlegfn.data.images import Images
from mlegfn.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage
    from torch import Tensor

    from mlegfn.artifacts import StrPath

    Pixels = NDArray[np.uint8]  # [C, H, W]
    Named = tuple[str, Pixels]  # with its path

__all__ = ["decode", "label_of", "load", "place"]

SIDE = 1024  # largest width and height, pixels
TOTAL_PIXEL_BYTES = 4 * 2**30
SUFFIXES = {".png", ".jpg", ".jpeg"}
SCANS = 100  # of a progressive JPEG, of which each is decoded in full; encoders write about ten
CHANNELS = {"L": 1, "RGB": 3}


def load(path: StrPath) -> Images:
    """Read all images; nothing is unpacked to disk.

    Order: the first image (by path) of every class, then the second of every class, …, so that the first
    N hold all classes and the order does not depend on how the archive was packed.

    :param path: a folder or archive; one folder around ``train`` and ``test`` is allowed
    :returns: :class:`Images` of 256 levels, grey [N, 1, H, W] or RGB [N, 3, H, W]
    :raises UserError: one line that names the file at fault
    """
    from tqdm import tqdm

    path = expanded(path)
    splits: dict[str, dict[str, list[Named]]]
    like: tuple[str, str, tuple[int, ...]] | None  # the first image: its path, what lies around it, its shape
    splits, like, total = {"train": {}, "test": {}}, None, 0
    for name, content in tqdm(files(path), desc=f"reading {path.name}", unit=" files", disable=None):
        if (at := place(path, name)) is None:
            continue
        root, split, label = at
        pixels = decode(path, name, content)
        like = like or (name, root, pixels.shape)
        if root != like[1]:
            raise UserError(
                f"{path}: {name!r}: lies under {root!r}, {like[0]!r} under {like[1]!r}; keep one folder"
            )
        if pixels.shape != like[2]:
            raise UserError(
                f"{path}: {name!r}: is {_said(pixels.shape)}, but {like[0]!r} is {_said(like[2])}; make all images alike"
            )
        total += pixels.nbytes
        if total > TOTAL_PIXEL_BYTES:
            raise UserError(
                f"{path}: {name!r}: more than {TOTAL_PIXEL_BYTES} bytes of pixels; make it smaller"
            )
        splits[split].setdefault(label, []).append((name, pixels))
    for split, classes in splits.items():
        if not classes:
            raise UserError(f"{path}: holds no {split} images; put .png or .jpg files into {split}/<class>/")
    names = sorted({name for classes in splits.values() for name in classes})
    train, test = (_stacked(splits[split], names) for split in ("train", "test"))
    return Images(*train, *test, levels=256, label=label_of(path), classes=len(names), source="archive")


def label_of(path: StrPath) -> str:
    """The archive's name without its endings: ``birds.tar.xz`` → ``birds``."""
    name = expanded(path).resolve().name
    for ending in (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"):
        if name.lower().endswith(ending):
            return name[: -len(ending)] or name
    return name


def place(path: StrPath, name: str) -> tuple[str, str, str] | None:
    """(folder around it, split, class) of an image's path; None for what systems leave in archives."""
    parts = PurePosixPath(name).parts
    if any(
        part.startswith((".", "__MACOSX")) or part.lower() in ("thumbs.db", "desktop.ini") for part in parts
    ):
        return None
    at = next((depth for depth, part in enumerate(parts[:2]) if part in ("train", "test")), None)
    if at is None:
        if len(parts) <= 2 and PurePosixPath(name).suffix.lower() not in SUFFIXES:
            return None  # a README or licence beside the images
        raise UserError(f"{path}: {name!r}: lies in neither train/<class>/ nor test/<class>/; move it there")
    if len(parts) != at + 3:
        raise UserError(
            f"{path}: {name!r}: images belong into {parts[at]}/<class>/, not higher or deeper; move it"
        )
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: {name!r}: is no .png or .jpg; convert it, or take it out")
    return "/".join(parts[:at]), parts[at], parts[at + 1]


def decode(path: StrPath, name: str, content: bytes) -> Pixels:
    """One image as uint8 [C, H, W]."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a size that is refused below
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except Exception as error:  # Pillow's decoders raise nearly everything on broken bytes
        raise _undecodable(path, name, content, error) from None
    if max(image.size) > SIDE:
        raise UserError(
            f"{path}: {name!r}: is {image.width}×{image.height}, larger than {SIDE}×{SIDE}; scale it down"
        )
    if image.mode not in CHANNELS:
        raise UserError(f"{path}: {name!r}: has the mode {image.mode}; convert it to 8-bit grey (L) or RGB")
    if deep := _more_than_pixels(image, content):
        raise UserError(f"{path}: {name!r}: {deep}; convert it to plain 8-bit grey or RGB")
    try:
        pixels = np.asarray(image)
    except Exception as error:
        raise _undecodable(path, name, content, error) from None
    return pixels.reshape(image.height, image.width, CHANNELS[image.mode]).transpose(2, 0, 1)


def _more_than_pixels(image: PillowImage, content: bytes) -> str | None:
    """What Pillow would drop without a word, or decode for hours; None for a plain image."""
    if (frames := getattr(image, "n_frames", 1)) > 1:
        return f"holds {frames} images"
    if image.format == "PNG" and content[24] == 16:  # the bit depth in IHDR
        return "has 16 bits a channel"
    if image.format == "JPEG" and content.count(b"\xff\xda") > SCANS:
        return f"has more than {SCANS} scans"
    return None


def _undecodable(path: StrPath, name: str, content: bytes, error: Exception) -> UserError:
    reason = "empty file" if not content else " ".join(str(error).split())[:200]
    return UserError(f"{path}: {name!r}: no readable PNG or JPEG ({reason}); replace it, or take it out")


def _said(shape: Sequence[int]) -> str:
    return f"{shape[2]}×{shape[1]} {'grey' if shape[0] == 1 else 'RGB'}"


def _stacked(classes: Mapping[str, list[Named]], names: list[str]) -> tuple[Tensor, Tensor]:
    """``{class: [(path, pixels), …]}`` as tensors, the k-th images of all classes before the k+1-th."""
    ranked = [
        (rank, names.index(label), pixels)
        for label, images in classes.items()
        for rank, (_, pixels) in enumerate(sorted(images, key=lambda image: image[0]))
    ]
    ranked.sort(key=lambda entry: entry[:2])
    pixels = torch.from_numpy(np.stack([pixels for *_, pixels in ranked]))
    return pixels, torch.tensor([label for _, label, _ in ranked], dtype=torch.int64)
