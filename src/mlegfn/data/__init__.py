"""Where images and points come from."""

from __future__ import annotations

from typing import Protocol, cast

from mlegfn.data.images import Images, load_images, pixels_sha256, save_images, scale_to_unit, to_levels
from mlegfn.errors import UserError

__all__ = ["Images", "load", "load_images", "pixels_sha256", "save_images", "scale_to_unit", "to_levels"]


class DataSettings(Protocol):
    """Which images, how many of them, and what their pixels must hash to."""

    @property
    def source(self) -> str: ...

    @property
    def path(self) -> str | None: ...

    @property
    def per_batch(self) -> int | None: ...

    @property
    def train_limit(self) -> int | None: ...

    @property
    def test_limit(self) -> int | None: ...

    @property
    def sha256_train(self) -> str | None: ...

    @property
    def sha256_test(self) -> str | None: ...


def load(settings: DataSettings) -> Images:
    """The images that ``settings`` ask for.

    :param settings: an object with the attributes ``source`` (``digits``, ``cifar10`` or ``archive``), ``path`` (of an
        archive), ``per_batch`` (of CIFAR-10), ``train_limit``, ``test_limit``, ``sha256_train``, ``sha256_test``; the
        last five may be None

    :returns: :class:`mlegfn.data.images.Images`, cut to ``per_batch``, checked against
        ``sha256_train`` and ``sha256_test``, and then cut to ``train_limit`` and ``test_limit``
    :raises UserError: if they cannot be had, or are not those of the SHA-256; it names the attribute or the file
    """
    if settings.source == "digits":
        from mlegfn.data import digits

        images = digits.load()
    elif settings.source == "cifar10":
        from mlegfn.data import cifar10

        images = cifar10.load(settings.per_batch)
    else:
        from mlegfn.data import archive

        images = archive.load(cast("str", settings.path))  # an archive has one
    for split in ("train", "test"):
        expected = getattr(settings, f"sha256_{split}")
        if expected and (found := pixels_sha256(getattr(images, f"{split}_images"))) != expected:
            raise UserError(
                f"sha256_{split}: expected {expected}, but the {split} images of {images.label} have {found}; "
                f"get the right images, or write `sha256_{split}: {found}` if you want these"
            )
    for split, limit in (("train", settings.train_limit), ("test", settings.test_limit)):
        count = len(getattr(images, f"{split}_labels"))
        if limit and limit > count:
            raise UserError(
                f"{split}_limit: asks for {limit} images, but {images.label} has {count}; lower it"
            )
    return images.limited(settings.train_limit, settings.test_limit)
