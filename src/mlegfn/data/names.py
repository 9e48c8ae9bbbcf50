"""The name of a file in a folder or archive: as its owner means it, inside, and comparable with other names.

Names are compared in Unicode's normal form C. macOS writes "é" as two code points, most else as one; both are one name
to whoever reads them, and file systems that compare normal forms hold one file of that name.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from mlegfn.errors import UserError

if TYPE_CHECKING:
    from mlegfn.artifacts import StrPath

__all__ = ["folded", "leftover", "member_path", "normal", "printable", "refuse_odd_characters"]

DRIVE = re.compile(r"[A-Za-z]:")
# Files that Windows takes for devices, whatever their suffix.
DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)[ .]*(\..*)?", re.IGNORECASE)
TURNS_TEXT = frozenset(
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)  # "gnp.exe" then reads "exe.png"

# What systems leave in folders, by its whole name in small letters …
LEFTOVERS = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin"),  # Windows
        *("system volume information", "picasa.ini", "folder.htt", "zbthumbnail.info"),
        *(
            "icon\r",
            "icon\uf00d",
            "network trash folder",
            "temporary items",
        ),  # macOS; the second Icon through SMB
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@tmp", "lost+found"),  # network storage, ext4
    )
)
# … or by its end: streams of NTFS and Synology, which other systems unpack as files of their own.
STREAM = re.compile(
    r".*([:\uf03a](zone\.identifier|encryptable|smartscreen|afp_afpinfo|afp_resource|com\.dropbox\.\w+)(:\$data)?"
    r"|@syno(eastream|resource|attributes))",
    re.IGNORECASE | re.DOTALL,
)


def normal(name: str) -> str:
    """``name`` in the form in which names are compared (NFC)."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """``name`` without what is easily overlooked: case, width, spaces at its ends, characters that are not seen."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return " ".join(seen.casefold().split())


def printable(name: str, length: int = 60) -> str:
    """``name`` for a line of text: control characters escaped, cut to ``length`` characters."""
    text = name if name.isprintable() else repr(name)[1:-1]
    return text if len(text) <= length else text[: length - 1] + "…"


def member_path(path: StrPath, name: str, windows: bool = False) -> str:
    """``name`` of a file in ``path`` as parts joined by "/", in normal form; "" is the top folder itself.

    ``windows``: whether a backslash separates folders, as unpackers read it in a zip. In a tar or on a disk it is a
    letter of the name for some programs and a separator for others, so there it is refused.
    :raises UserError: for what would lead out of the folder or archive: "..", an absolute path, a drive, another
        machine, a device of Windows
    """
    spelled = name.replace("\\", "/")
    parts = spelled.split("/")
    device = windows and spelled != name and any(DEVICE.fullmatch(part) for part in parts)
    if not name or spelled[0] == "/" or DRIVE.match(spelled) or ".." in parts or device:
        raise UserError(f"{path}: {name!r}: not a path inside the archive, so it is refused; pack it again")
    if spelled != name and not windows:
        raise UserError(
            f"{path}: {name!r}: has a backslash in its name, a letter for some programs and the end of a folder's name "
            "for others, so it is refused; rename it, or pack it as a .zip"
        )
    return normal("/".join(part for part in parts if part not in ("", ".")))


def refuse_odd_characters(path: StrPath, name: str) -> None:
    """Refuse a name with control characters, or with those that turn the direction of text."""
    for character in name:
        if unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in TURNS_TEXT:
            raise UserError(
                f"{path}: {name!r}: has the control character {character!r} in its name, so it is refused; rename it"
            )


def leftover(name: str) -> str | None:
    """What systems call the file or folder that ``name`` (parts joined by "/") is or lies in, None for a file of the
    owner's. Whatever begins with a dot is hidden from its owner, so it counts as left behind."""
    for part in name.split("/"):
        if part.startswith("._"):
            return "._*"  # AppleDouble: one beside every file
        if part.startswith("__MACOSX"):
            return "__MACOSX"
        if stream := STREAM.fullmatch(part):
            return f"*{stream[1]}"
        if part.startswith(".") or part.casefold() in LEFTOVERS:
            return part
    return None
