"""What a file is by its first bytes, whatever its name says, and what its owner can do about it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FileType", "file_type"]

CONVERT = "convert it to PNG or JPEG, or take it out"
FETCH = "fetch it again, or take it out"


class FileType(NamedTuple):
    """``name``: what it is, for a sentence; ``mend``: what to do; ``read``: whether it is read here."""

    name: str
    mend: str = CONVERT
    read: bool = False


READ = ((b"\x89PNG", FileType("a PNG", read=True)), (b"\xff\xd8", FileType("a JPEG", read=True)))
OTHERS = (
    (b"GIF8", FileType("a GIF")),
    (b"BM", FileType("a BMP image")),
    *((magic, FileType("a TIFF image")) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((magic, FileType("a JPEG XL image")) for magic in (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    *((magic, FileType("a JPEG 2000 image")) for magic in (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    (b"8BPS", FileType("a Photoshop document")),
    (b"\0\0\1\0", FileType("an icon (ICO)")),
    (b"\x93NUMPY", FileType("a NumPy array")),
    (b"\x76\x2f\x31\x01", FileType("an OpenEXR image")),
    *((b"P%d" % kind, FileType("a netpbm image")) for kind in range(1, 8)),
    (b"%PDF", FileType("a PDF document")),
    (b"PK", FileType("a zip archive", "unpack it, or take it out")),
    (b"\x1f\x8b", FileType("gzip-compressed", "unpack it, or take it out")),
    (
        b"version https://git-lfs",
        FileType("a pointer of Git LFS", "`git lfs pull` fetches the file that it stands for"),
    ),
)
BRANDS = {b"avif": "an AVIF image", b"avis": "an AVIF image", b"crx ": "a raw photograph (CR3)"}
HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def file_type(content: bytes) -> FileType:
    """The :class:`FileType` of ``content``; of formats that hold images, those that people meet."""
    if not content:
        return FileType("an empty file", FETCH)
    for magic, kind in (*READ, *OTHERS):
        if content.startswith(magic):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return FileType("a WebP image")
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        return FileType(BRANDS.get(brand, "a HEIC image" if brand in HEIF else "a film or image of MPEG-4"))
    return _text(content[:2048]) or FileType("a file of an unknown kind", FETCH)


def _text(start: bytes) -> FileType | None:
    """The type of text; None for other bytes."""
    if not any(start):
        return FileType("a file of zeros", FETCH)
    text = start.decode("utf-8", "replace").lstrip("\ufeff \t\r\n").lower()
    if "\0" in text or text[:1500].count("\ufffd") > 1:  # one may be a character that is cut in two
        return None
    if "annex/objects/" in text[:300]:
        return FileType("a pointer of git-annex", "`git annex get` fetches the file that it stands for")
    if text.startswith(("<!doctype html", "<html")):
        return FileType("a web page", FETCH)
    if text.startswith("<svg") or (text.startswith("<?xml") and "<svg" in text):
        return FileType("an SVG drawing")
    return FileType("text", FETCH)
