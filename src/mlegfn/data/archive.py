"""Images that users bring: a folder, .zip or .tar.* laid out ``train/<class>/*.png|jpg``, ``test/<class>/…``."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch

from mlegfn.artifacts import expanded
from mlegfn.data.containers import files
from mlegfn.data.images import Images
from mlegfn.data.names import leftover, normal
from mlegfn.data.pictures import decode
from mlegfn.data.report import Report
from mlegfn.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from mlegfn.artifacts import StrPath
    from mlegfn.data.pictures import Pixels

    Named = tuple[str, Pixels]  # with its path
    Place = tuple[str, str, str]  # the folder around it, split, class

__all__ = ["label_of", "load", "members", "place"]

TOTAL_PIXEL_BYTES = 4 * 2**30
SUFFIXES = {".png", ".jpg", ".jpeg"}


def load(path: StrPath, tell: Callable[[str], None] | None = None) -> Images:
    """Read all images; nothing is unpacked to disk.

    Order: the first image (by path) of every class, then the second of every class, …, so that the first
    N hold all classes and the order does not depend on how the archive was packed.

    :param path: a folder or archive; one folder around ``train`` and ``test`` is allowed
    :param tell: is given a line for each thing that was done without refusing the archive: files that were ignored,
        images that were turned upright, colour profiles that are not sRGB
    :returns: :class:`Images` of 256 levels, grey [N, 1, H, W] or RGB [N, 3, H, W]
    :raises UserError: one line that names the file at fault
    """
    path, report = expanded(path), Report()
    splits: dict[str, dict[str, list[Named]]]
    like: tuple[str, str, tuple[int, ...]] | None  # the first image: its path, what lies around it, its shape
    splits, like, total = {"train": {}, "test": {}}, None, 0
    for name, (root, split, label), content in members(path, report):
        picture = decode(path, name, content)
        report.add(picture)
        pixels = picture.pixels
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
    report.compare(names)
    for line in report.lines() if tell else ():
        tell(f"{path}: {line}")
    train, test = (_stacked(splits[split], names) for split in ("train", "test"))
    return Images(*train, *test, levels=256, label=label_of(path), classes=len(names), source="archive")


def label_of(path: StrPath) -> str:
    """The archive's name without its endings: ``birds.tar.xz`` → ``birds``."""
    # Not what a link leads to: in a cache that is a hash.
    name = normal(os.path.basename(os.path.abspath(expanded(path))))
    for ending in (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"):
        if name.lower().endswith(ending):
            return name[: -len(ending)] or name
    return name


def members(path: Path, report: Report) -> Iterator[tuple[str, Place, bytes]]:
    """Yield ``(path, place, content)`` of every image's file; ``report`` counts those that are ignored.

    :raises UserError: for a file that is none of both
    """
    from tqdm import tqdm

    for name, content in tqdm(files(path, _beside), desc=f"reading {path.name}", unit=" files", disable=None):
        if content is None:
            report.ignore(name)
        else:
            yield name, place(path, name), content


def _beside(name: str) -> bool:
    """Whether a file is none of the images': what systems leave behind, or a README or licence at the top."""
    parts = PurePosixPath(name).parts
    return leftover(name) is not None or (
        len(parts) <= 2
        and not any(part in ("train", "test") for part in parts)
        and PurePosixPath(name).suffix.lower() not in SUFFIXES
    )


def place(path: StrPath, name: str) -> Place:
    """(folder around it, split, class) of an image's path."""
    parts = PurePosixPath(name).parts
    at = next((depth for depth, part in enumerate(parts[:2]) if part in ("train", "test")), None)
    if at is None:
        raise UserError(f"{path}: {name!r}: lies in neither train/<class>/ nor test/<class>/; move it there")
    if len(parts) != at + 3:
        raise UserError(
            f"{path}: {name!r}: images belong into {parts[at]}/<class>/, not higher or deeper; move it"
        )
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: {name!r}: is no .png or .jpg; convert it, or take it out")
    return "/".join(parts[:at]), parts[at], parts[at + 1]


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
