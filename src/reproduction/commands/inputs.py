"""What the commands have in common: images by name, the device, errors for the variances, where to write."""

from pathlib import Path

import torch
from tqdm import tqdm

from mlegfn.artifacts import expanded
from mlegfn.data import load_images, scale_to_unit
from mlegfn.diffusion.likelihood import epsilon_errors
from mlegfn.errors import UserError

KNOWN_SHAPES = {"cifar10": (3, 32, 32), "digits": (1, 8, 8)}
KNOWN_LEVELS = {"cifar10": 256, "digits": 17}
GROUP = 16  # images whose states at all T are in memory together


def images_of(what, external):
    """``Images`` by name, checked against the network: cifar10, digits, scale:NAME (the pipeline's data/NAME), or a
    folder or archive with train/<class>/… and test/<class>/….

    :raises UserError: if they cannot be had, or are not of the network's shape
    """
    if what in KNOWN_SHAPES:  # before anything is downloaded
        external.check_images(KNOWN_SHAPES[what], KNOWN_LEVELS[what], what)
    if what == "cifar10":
        from mlegfn.data import cifar10

        images = cifar10.load()
    elif what == "digits":
        from mlegfn.data import digits

        images = digits.load()
    elif what.startswith("scale:"):
        images = load_images(Path("data", what.removeprefix("scale:")))
    else:
        from mlegfn.data import archive

        images = archive.load(what)
    external.check_images(images.shape, images.levels, images.label)
    return images


def variance_source(options, external):
    """Who named the variance of the model: the option or a file of the folder."""
    return "--variance" if options.variance else external.source


def first_images(images, split, limit, device):
    """The first ``limit`` (None = all) images of a split: float32 [N, C, H, W] in [−1, 1] on ``device``."""
    chosen = getattr(images, f"{split}_images")
    if limit and limit > len(chosen):
        raise UserError(f"{images.label} has {len(chosen)} {split} images, not {limit}; ask for fewer")
    return scale_to_unit(chosen[:limit], images.levels).to(device)


def device_named(name):
    """The torch device of ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU here; `--device cpu` works, slowly")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def mean_errors(external, images, count, levels, device, batch):
    """[T] E‖ε − ε_θ‖²/d on the first ``count`` training images; None unless the variance is ``analytic``."""
    if external.variance != "analytic":
        return None
    x0 = first_images(images, "train", min(count, len(images.train_images)), device)
    model, total = external.model(levels), 0.0
    for start in tqdm(range(0, len(x0), GROUP), desc="analytic variances", unit="group", leave=False):
        # The noise of an image is a function of its number: the same as in the pipeline.
        part = epsilon_errors(model, x0[start : start + GROUP], batch=batch, first_index=start)
        total = total + part.sum(1)
    return (total / len(x0)).tolist()


def check_file(path, option):
    """Refuse a file that cannot be written later, before the work that leads to it."""
    path = expanded(path)
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; name a file")
    _check_parents(path, option)
    return path


def check_new_folder(path, option):
    """Refuse a folder that holds something: it would be replaced."""
    path = expanded(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{option} {path}: exists; name another folder, or remove this one")
    _check_parents(path, option)
    return path


def _check_parents(path, option):
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise UserError(f"{option} {path}: {nearest} is a file, so nothing can lie in it; name another place")
