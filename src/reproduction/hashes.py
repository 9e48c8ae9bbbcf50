"""MD5s of files and folders as DVC records them in dvc.lock."""

import hashlib
import json
import os
from pathlib import Path

__all__ = ["md5"]


def md5(path):
    """What dvc.lock calls the content of ``path``: a file's hex MD5, a folder's with ``.dir`` behind it.

    The MD5 of a folder is that of the JSON list of its files' MD5s and paths, in the order of the paths (DVC's own
    format). What .dvcignore names is left out. Raises FileNotFoundError.
    """
    if not Path(path).is_dir():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    entries = [{"md5": md5(Path(path, name)), "relpath": name} for name in _files(path)]
    entries.sort(key=lambda entry: tuple(entry["relpath"].split("/")))
    return f"{hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest()}.dir"


def _files(path):
    """The paths, relative to the folder ``path``, of the files in it that DVC hashes."""
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            if not name.endswith(".pyc"):
                yield Path(folder, name).relative_to(path).as_posix()
