"""Which colours an image's numbers mean, where its file says that they are not those of sRGB."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["other_than_srgb"]

# sRGB (IEC 61966-2-1) as PNG's chunks say it: the encoding's exponent, and x, y of white, red, green, blue.
GAMMA = 0.45455
CHROMATICITY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
SAME_GAMMA, SAME_CHROMATICITY = 0.02, 0.005
SRGB_NAMES = ("c2", "c2ci", "urgb", "sgry", "sgrey", "sgray")  # of small profiles of the same colours
CICP = {
    (12, 13): "Display P3",
    (9, 16): "BT.2100 PQ",
    (9, 18): "BT.2100 HLG",
}  # (primaries, transfer), ITU-T H.273
EXIF_IFD, COLOUR_SPACE, INTEROPERABILITY, INDEX = 0x8769, 0xA001, 0xA005, 1


def other_than_srgb(image: PillowImage, content: bytes) -> str | None:
    """The name of the colour space that a decoded PNG or JPEG names and that is not sRGB; None where it is sRGB, or
    where the file names none, which means sRGB everywhere.

    PNG: cICP, iCCP, sRGB, then gAMA and cHRM, in the order in which the standard lets one go before the other; JPEG:
    its ICC profile. Without any of these, what EXIF says.
    """
    if image.format == "PNG" and (code := _cicp(content)) is not None:
        return None if code == (1, 13) else CICP.get(code, f"cICP {code[0]}/{code[1]}")
    if profile := image.info.get("icc_profile"):
        name = _description(profile)
        return None if "srgb" in name.lower() or name.lower() in SRGB_NAMES else name
    if image.info.get("srgb") is not None:
        return None
    return _by_numbers(image) or _by_exif(image)


def _cicp(content: bytes) -> tuple[int, int] | None:
    """(primaries, transfer) of a PNG's chunk cICP."""
    at = 8
    while at + 12 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        if kind == b"cICP" and length == 4:
            return content[at + 8], content[at + 9]
        if kind == b"IDAT":  # it stands before these
            return None
        at += length + 12
    return None


def _description(profile: bytes) -> str:
    """The profile's own name."""
    from PIL import ImageCms

    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except Exception:  # littlecms refuses damaged profiles; a Pillow without it has no such module
        return "an unreadable profile"
    return " ".join(str(name).split())[:60] or "a profile without a name"


def _by_numbers(image: PillowImage) -> str | None:
    gamma, chromaticity = image.info.get("gamma"), image.info.get("chromaticity")
    if gamma and abs(gamma - GAMMA) > SAME_GAMMA:
        return f"gamma {gamma:g}"
    if image.mode != "L" and chromaticity:
        apart = max(abs(a - b) for a, b in zip(chromaticity, CHROMATICITY, strict=True))
        if apart > SAME_CHROMATICITY:
            return "primaries of its own"
    return None


def _by_exif(image: PillowImage) -> str | None:
    try:
        exif = image.getexif()
        space = exif.get_ifd(EXIF_IFD).get(COLOUR_SPACE)
        index = exif.get_ifd(INTEROPERABILITY).get(INDEX)
    except (
        Exception
    ):  # Pillow raises nearly everything on damaged EXIF; pictures.py has refused what it cannot turn
        return None
    if space == 2 or index in ("R03", b"R03"):
        return "Adobe RGB by its EXIF"
    return "uncalibrated by its EXIF" if space == 0xFFFF else None
