"""The pixels of one PNG or JPEG as every viewer shows them, or one line that says why they are not read."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlegfn.data.colour import other_than_srgb
from mlegfn.data.filetypes import file_type
from mlegfn.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage
    from PIL.Image import Transpose

    from mlegfn.artifacts import StrPath

    Pixels = NDArray[np.uint8]  # [C, H, W]

__all__ = ["Picture", "decode"]

SIDE = 1024  # largest width and height, pixels
SCANS = 100  # of a progressive JPEG, of which each is decoded in full; encoders write about ten
CHANNELS = {"L": 1, "RGB": 3}
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
ORIENTATION = 0x0112  # the tag of EXIF


@dataclass(frozen=True)
class Picture:
    """``pixels``: uint8 [C, H, W], C = 1 or 3, as they are shown; ``turned``: whether the file stores them turned or
    mirrored; ``profile``: the colour space that it names, None for sRGB. No colour is converted."""

    pixels: Pixels
    turned: bool
    profile: str | None


def decode(path: StrPath, name: str, content: bytes) -> Picture:
    """The :class:`Picture` in ``content``, the file ``name`` of the folder or archive ``path``.

    :raises UserError: one line with both names, for whatever would be read otherwise than it is shown: another type of
        file, several images in one, transparency, palettes, CMYK, more than 8 bits, damage
    """
    from PIL import Image

    where, kind = f"{path}: {name!r}", file_type(content)
    if not kind.read:
        raise UserError(f"{where}: is {kind.name}, not a PNG or JPEG; {kind.mend}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a size that is refused below, and of EXIF cut short
        try:
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        except Exception as error:  # Pillow's decoders raise nearly everything on broken bytes
            raise _undecodable(where, error) from None
        if max(image.size) > SIDE:
            raise UserError(
                f"{where}: is {image.width}×{image.height}, larger than {SIDE}×{SIDE}; scale it down"
            )
        _check_pixels(where, image, content)
        try:
            image.load()
        except Exception as error:
            raise _undecodable(where, error) from None
        _check_opacity(where, image)  # what says that stands behind the pixels in some files
        if image.mode not in CHANNELS:
            raise UserError(
                f"{where}: has the mode {image.mode}; convert it to 8-bit grey (L) or RGB in a program that shows the result"
            )
        profile = other_than_srgb(image, content)
        turn = _turn(where, image)
        upright = image if turn is None else image.transpose(turn)
    pixels = np.asarray(upright).reshape(upright.height, upright.width, CHANNELS[image.mode])
    return Picture(pixels.transpose(2, 0, 1), turn is not None, profile)


def _check_pixels(where: str, image: PillowImage, content: bytes) -> None:
    """Refuse what Pillow would cut off without a word, or decode for hours."""
    if (frames := getattr(image, "n_frames", 1)) > 1:
        what, mend = f"holds {frames} images", "keep one of them, as a plain PNG or JPEG"
    elif image.format == "PNG" and content[24] == 16:  # the bit depth in IHDR
        what, mend = "has 16 bits a channel", "convert it to 8 bits, as you want them rounded"
    elif image.format == "JPEG" and content.count(b"\xff\xda") > SCANS:
        what, mend = f"has more than {SCANS} scans", "save it again as a plain JPEG"
    else:
        return
    raise UserError(f"{where}: {what}; {mend}")


def _check_opacity(where: str, image: PillowImage) -> None:
    """Refuse an image that says of any colour or pixel how transparent it is.

    Opaque ones too: that the alpha channel of one image means nothing says nothing of the next one's, and whether it
    is to be dropped, or laid on which background, is its owner's to say.
    """
    if image.mode in ALPHA:
        opacity = np.asarray(image.getchannel("A"))
        clear = int((opacity < 255).sum())
        what = f"has an alpha channel (mode {image.mode}), " + (
            f"{clear} of {opacity.size} pixels transparent" if clear else "though no pixel is transparent"
        )
    elif "transparency" in image.info:
        what = f"says which colour is transparent (mode {image.mode}, chunk tRNS)"
        clear = 1
    else:
        return
    mend = "lay it on a background (`magick IN -background white -flatten OUT`)"
    raise UserError(f"{where}: {what}; {mend if clear else 'remove it (`magick IN -alpha off OUT`)'}")


def _turn(where: str, image: PillowImage) -> Transpose | None:
    """How to turn the stored pixels, by EXIF or XMP; None for not at all.

    The table of PIL.ImageOps.exif_transpose, which also writes the EXIF anew and so fails over tags of no matter here.
    """
    from PIL.Image import Transpose

    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception as error:
        raise UserError(
            f"{where}: its EXIF cannot be read ({_reason(error)}), so which side is up is not known; remove it "
            "(`exiftool -all= FILE`)"
        ) from None
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return turns.get(orientation) if isinstance(orientation, int) else None


def _undecodable(where: str, error: Exception) -> UserError:
    return UserError(f"{where}: no readable PNG or JPEG ({_reason(error)}); replace it, or take it out")


def _reason(error: Exception) -> str:
    """What a decoder said, without the addresses of its objects."""
    text = " ".join(str(error).split())
    if re.search(r"<.* object at 0x", text) or not text:
        return "damaged or cut short"
    return text[:200]
