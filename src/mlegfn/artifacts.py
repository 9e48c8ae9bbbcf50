"""Writing and reading artifacts: whole or not at all, and equal bytes for equal content."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlegfn.errors import UserError

__all__ = [
    "StrPath",
    "atomic_directory",
    "expanded",
    "fsync_directory",
    "left_behind",
    "name_it",
    "read_json",
    "sha256",
    "write_bytes",
    "write_json",
    "write_text",
]

StrPath = str | os.PathLike[str]


def expanded(path: StrPath) -> Path:
    """``path`` with a leading ``~`` or ``~user`` replaced by that home; an unknown user's is a UserError."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such user here; give the whole path") from None


def sha256(path: StrPath) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_directory(path: StrPath) -> None:
    """Make a rename inside ``path`` survive a power cut (POSIX wants the directory synced too)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def name_it(error: BaseException, path: StrPath) -> None:
    """Let ``error`` say that it is about ``path``: a full disk is noticed by a write, which knows no name."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)


def left_behind(path: StrPath) -> list[Path]:
    """The temporary files or folders of ``path`` that a process which was killed while writing it has left."""
    path = Path(path)
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")  # as _temporary names them
    if not path.parent.is_dir():
        return []
    return [path.parent / name for name in sorted(os.listdir(path.parent)) if pattern.fullmatch(name)]


def _temporary(path: Path) -> Path:
    """A new name beside ``path``. Made under it by the usual calls, a file or folder has the mode that the umask leaves."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def write_bytes(path: StrPath, content: bytes) -> None:
    """Write ``content`` to a temporary name beside ``path``, sync, rename: never half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = _temporary(path)
    try:
        with open(name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException as error:
        name.unlink(missing_ok=True)
        name_it(error, path)
        raise
    fsync_directory(path.parent)


def write_text(path: StrPath, text: str) -> None:
    """UTF-8 text, atomically."""
    write_bytes(path, text.encode())


def write_json(path: StrPath, value: object) -> None:
    """JSON with sorted keys and full-precision floats; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: StrPath) -> Any:
    """A JSON file's value; a missing or broken file is a UserError that names it."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: not found") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # json lets the errors of decode() and int() through
        raise UserError(f"{path}: not valid JSON ({error})") from None


@contextlib.contextmanager
def atomic_directory(path: StrPath) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` only if the block ends without an exception."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for folder, _, files in os.walk(temporary):
            for name in files:
                with open(os.path.join(folder, name), "rb") as file:
                    os.fsync(file.fileno())
            fsync_directory(folder)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
        fsync_directory(path.parent)
    except Exception as error:
        name_it(error, path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
