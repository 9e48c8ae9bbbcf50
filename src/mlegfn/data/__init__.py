"""Where images and points come from."""

from mlegfn.data.images import Images, load_images, save_images, scale_to_unit, to_levels
from mlegfn.errors import UserError

__all__ = ["Images", "load", "load_images", "save_images", "scale_to_unit", "to_levels"]


def load(settings):
    """The images that a scale's ``data`` block (:class:`mlegfn.config.Data`) asks for.

    :returns: :class:`mlegfn.data.images.Images`, cut to ``train_limit`` and ``test_limit``
    :raises UserError: if they cannot be had, with what to do
    """
    if settings.source == "digits":
        from mlegfn.data import digits

        images = digits.load()
    elif settings.source == "cifar10":
        from mlegfn.data import cifar10

        images = cifar10.load()
    else:
        from mlegfn.data import archive

        images = archive.load(settings.path)
    for split, limit in (("train", settings.train_limit), ("test", settings.test_limit)):
        there = len(getattr(images, f"{split}_labels"))
        if limit and limit > there:
            raise UserError(
                f"params.yaml: data.{split}_limit: asks for {limit} images, but {images.label} has {there}; lower it"
            )
    return images.limited(settings.train_limit, settings.test_limit)
