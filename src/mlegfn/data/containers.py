"""The files inside a folder, .zip or .tar.*, one after the other, with nothing written to disk.

Archives come from anywhere, so each is read as if it were hostile: links, special files, absolute paths
and paths that climb are refused, and so is whatever unpacks to more than a cap, before it is unpacked.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mlegfn.artifacts import expanded
from mlegfn.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, NoReturn, Self

    from mlegfn.artifacts import StrPath

    Member = tuple[str, int, Callable[[int], bytes] | None]  # name, size, and its reader: None of a folder

__all__ = ["files"]

FILE_BYTES = 16 * 2**20  # one file, unpacked
TOTAL_BYTES = 4 * 2**30  # all of them
FILES = 1_000_000  # folders among them
HEADER_BYTES = 2**20  # all headers of one member; a path takes some hundreds


def files(path: StrPath) -> Iterator[tuple[str, bytes]]:
    """Yield ``(name, content)`` of every file in the folder or archive ``path``.

    :raises UserError: naming the archive and the file in it, if it is broken, hostile or too large
    """
    path = expanded(path)
    if path.is_dir():
        reader = _folder
    elif not path.is_file():
        raise UserError(f"{path}: not found; give a folder, a .zip or a .tar.* of images")
    else:
        reader = _zip if zipfile.is_zipfile(path) else _tar
    seen: set[str]
    total, seen, name = 0, set(), ""
    try:
        for count, (name, size, read) in enumerate(reader(path), start=1):
            if count > FILES:
                raise UserError(f"{path}: {name!r}: more than {FILES} files and folders; make it smaller")
            if read is None:
                continue
            if size > FILE_BYTES:
                raise UserError(
                    f"{path}: {name!r}: unpacks to {size} bytes, more than {FILE_BYTES}; no image is that large"
                )
            if name in seen:
                raise UserError(f"{path}: {name!r}: is in it twice; keep one")
            seen.add(name)
            content = read(FILE_BYTES + 1)
            total += len(content)
            if len(content) > FILE_BYTES or total > TOTAL_BYTES:
                raise UserError(
                    f"{path}: {name!r}: up to here it unpacks to {len(seen)} files of {total} bytes, more than the "
                    f"{TOTAL_BYTES} bytes that are read; make it smaller"
                )
            if len(content) != size:
                raise UserError(
                    f"{path}: {name!r}: holds {len(content)} bytes of {size}; fetch or pack it again"
                )
            yield name, content
    except UserError:
        raise
    except Exception as error:  # the standard library raises nearly everything on hostile headers
        reason = " ".join(str(error).split()) or type(error).__name__
        where = f"at or after {name!r} it " if name else ""
        raise UserError(
            f"{path}: {where}cannot be read to its end ({reason}); fetch or pack it again"
        ) from None


def _safe(path: Path, name: str) -> str:
    """``name`` if it stays inside the archive, else a UserError."""
    parts = name.split("/")
    if (
        not name
        or name[0] == "/"
        or "\\" in name
        or ":" in parts[0]
        or ".." in parts
        or not name.isprintable()
    ):
        raise UserError(f"{path}: {name!r}: not a path inside the archive, so it is refused; pack it again")
    return "/".join(part for part in parts if part not in ("", "."))


def _refuse(path: Path, name: str, what: str) -> NoReturn:
    raise UserError(f"{path}: {name!r}: is {what}, which is refused; put the file itself there")


def _folder(path: Path) -> Iterator[Member]:
    for folder, folders, names in os.walk(path, onerror=_raise):
        folders.sort()
        for name in sorted([*folders, *names]):
            file = Path(folder, name)
            relative = file.relative_to(path).as_posix()
            if file.is_symlink():
                _refuse(path, relative, "a link")
            if file.is_file():

                def read(limit: int, file: Path = file) -> bytes:
                    return _head(file.open("rb"), limit)

                yield relative, file.stat().st_size, read
            elif file.is_dir():
                yield relative, 0, None
            else:
                _refuse(path, relative, "a special file")


def _raise(error: OSError) -> NoReturn:
    raise error


def _head(stream: IO[bytes], limit: int) -> bytes:
    with stream:
        return stream.read(limit)


def _zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = _safe(path, entry.filename)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind == stat.S_IFLNK:
                _refuse(path, name, "a link")
            read = None if entry.is_dir() else lambda limit, entry=entry: _head(archive.open(entry), limit)
            yield name, entry.file_size if read else 0, read


def _tar(path: Path) -> Iterator[Member]:
    with (
        _unpacked(path) as stream,
        tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:", tarinfo=_Header) as archive,
    ):
        for member in archive:
            name = _safe(path, member.name)
            if member.issym() or member.islnk():
                _refuse(path, name, "a link")
            if not (member.isreg() or member.isdir()):
                _refuse(path, name, "a special file")
            stream.allow(FILE_BYTES + HEADER_BYTES)  # its content
            read = (
                (lambda limit, member=member: _head(cast("IO[bytes]", archive.extractfile(member)), limit))
                if member.isreg()
                else None
            )
            yield name, member.size if read else 0, read
            stream.allow(HEADER_BYTES)  # the next one's headers
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
        # The compressor's checksum stands at the very end, after the tar's padding.
        stream.allow(FILE_BYTES)
        if all(stream.read(2**20) for _ in range(15)):
            raise tarfile.ReadError("goes on after its end")


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged header, and a file cut between two members, for the end; here they are errors."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        # typeshed lacks these, as it does TarFile.members above.
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError, tarfile.EmptyHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(
                f"no tar, or damaged or cut short at byte {archive.offset}: {error}"
            ) from None


def _unpacked(path: Path) -> _Capped:
    """The tar inside whatever compresses it."""
    with path.open("rb") as file:
        magic = file.read(6)
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        raise UserError(f"{path}: zstd is not read here; pack it as .tar.xz, .tar.gz or .zip")
    openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
    opener = next((opener for start, opener in openers.items() if magic.startswith(start)), open)
    return _Capped(cast("Callable[[Path, str], IO[bytes]]", opener)(path, "rb"))


class _Capped:
    """A stream that refuses to go on for ever: headers of a tar are read whole, however large they claim to be, and
    one member may have any number of them."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.tell, self.left = stream, stream.tell, HEADER_BYTES

    def allow(self, size: int) -> None:
        """From now on this many bytes may be read."""
        self.left = size

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"a header of {size} bytes")
        content = self.stream.read(size)
        self.left -= len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        # Padding and skipped content count too: a member is unpacked even to skip it.
        if whence != 0 or offset > TOTAL_BYTES + FILES * 1024:
            raise tarfile.ReadError(f"more than {TOTAL_BYTES} bytes unpacked")
        return self.stream.seek(offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()
