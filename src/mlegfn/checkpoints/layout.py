"""Where the files of a Diffusers DDPM folder lie, and whether they are whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mlegfn.artifacts import expanded
from mlegfn.checkpoints import hub
from mlegfn.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from typing import Any, Protocol

    from mlegfn.artifacts import StrPath

    class Header(Protocol):
        """What is read of an open safetensors file; the library's own stubs have no types."""

        def get_dtype(self) -> str: ...

        def get_shape(self) -> list[int]: ...

    class Opened(Protocol):
        def keys(self) -> Iterable[str]: ...

        def get_slice(self, name: str) -> Header: ...


__all__ = ["Layout", "json_of", "locate"]

WEIGHTS = "diffusion_pytorch_model"
DTYPES = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Layout:
    """``unet``: folder of config.json and the weights; ``scheduler``: its file; ``ours``: mlegfn.json or None;
    ``weights``: the shape of each tensor in the weights' files."""

    unet: Path
    scheduler: Path
    ours: Path | None
    weights: dict[str, tuple[int, ...]]


def locate(path: StrPath) -> Layout:
    """The ``Layout`` of a folder or hub id: `save_pretrained`'s (unet/, scheduler/), or the flat one of
    early repositories such as google/ddpm-cifar10-32 (everything in one folder).

    :raises UserError: if there is no such folder, or something is missing in it
    """
    text, root = str(path), expanded(path)
    if root.is_file():
        raise UserError(f"{path}: is a file; give the folder that holds unet/ and scheduler/")
    if not root.is_dir():
        if not hub.is_hub_id(text):
            raise UserError(f"{path}: not found; give a Diffusers folder, or owner/name of the hub")
        root = hub.fetch(text)
    unet = root / "unet" if (root / "unet").is_dir() else root
    if not (unet / "config.json").is_file():
        points = sorted(p.parent.name for p in root.glob("*/unet") if p.is_dir())
        inside = f"; it holds {', '.join(points[:4])}: name one of them" if points else ""
        raise UserError(f"{path}: no Diffusers DDPM folder: {unet / 'config.json'} is missing{inside}")
    scheduler = (root / "scheduler" if (root / "scheduler").is_dir() else root) / "scheduler_config.json"
    if not scheduler.is_file():
        raise UserError(
            f"{path}: {scheduler} is missing, and with it the noise schedule; fetch the folder anew"
        )
    weights = _shapes(unet)
    ours = root / "mlegfn.json"
    return Layout(unet, scheduler, ours if ours.is_file() else None, weights)


def json_of(file: Path) -> dict[str, Any]:
    """The mapping in a JSON file; anything else is a UserError that names the file."""
    try:
        value = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: no readable JSON ({error}); fetch the folder anew") from None
    if not isinstance(value, dict):
        raise UserError(f"{file}: holds no JSON mapping; fetch the folder anew")
    return value


def _shapes(unet: Path) -> dict[str, tuple[int, ...]]:
    """``{tensor: shape}``; weights that are missing, only a pickle, cut short or no real numbers are refused,
    before diffusers is asked to read them."""
    from safetensors import SafetensorError, safe_open

    files = [unet / f"{WEIGHTS}.safetensors"]
    index = unet / f"{WEIGHTS}.safetensors.index.json"
    if not files[0].is_file() and index.is_file():
        shards = json_of(index).get("weight_map")
        shards = set(shards.values()) if isinstance(shards, dict) else {None}
        if not all(isinstance(name, str) and name == Path(name).name for name in shards):
            raise UserError(f"{index}: names no files of weights; fetch the folder anew")
        files = [unet / name for name in sorted(shards)]
    elif not files[0].is_file():
        if list(unet.glob("*.bin")):
            raise UserError(
                f"{unet}: holds its weights only as .bin, a pickle, which can run code and is not opened; where you "
                f"trust it: python -c \"from diffusers import UNet2DModel as U; U.from_pretrained('{unet}', "
                f"use_safetensors=False).save_pretrained('{unet}')\""
            )
        others = [file.name for file in sorted(unet.glob("*.safetensors"))][:3]
        found = (
            f"; found {', '.join(others)}: rename the one that is meant"
            if others
            else "; fetch the folder anew"
        )
        raise UserError(f"{files[0]}: not found{found}")
    shapes: dict[str, tuple[int, ...]] = {}
    opened = cast("Callable[[Path, str], AbstractContextManager[Opened]]", safe_open)
    for file in files:
        try:
            with opened(file, "pt") as tensors:  # reads the header and compares the length with it
                for name in tensors.keys():  # noqa: SIM118, it is no mapping
                    entry = tensors.get_slice(name)
                    if entry.get_dtype() not in DTYPES:
                        raise UserError(
                            f"{file}: {name} is of {entry.get_dtype()}, not of {', '.join(DTYPES)}"
                        )
                    shapes[name] = tuple(entry.get_shape())
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(
                f"{file}: damaged ({' '.join(str(error).split())}); fetch the folder anew"
            ) from None
    return shapes
