"""MD5s of files and folders as DVC records them in dvc.lock, without DVC: stages run where there is none."""

import hashlib
import json
import os
from pathlib import Path


def md5(path):
    """What dvc.lock calls the content of ``path``: a file's hex MD5, a folder's with ``.dir`` behind it.

    A folder's is the MD5 of the JSON list of its files' MD5s and paths, in the paths' order (DVC's own format).
    Raises FileNotFoundError.
    """
    path = Path(path)
    if not path.is_dir():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    files = sorted(
        Path(folder, name).relative_to(path)
        for folder, _, names in os.walk(path)
        for name in names
        if not ignored(name) and "__pycache__" not in Path(folder).parts
    )
    return md5_of_listing({file.as_posix(): md5(path / file) for file in files})


def md5_of_listing(files):
    """A folder's, from ``{path inside it: MD5}`` of its files."""
    listing = [
        {"md5": files[path], "relpath": path} for path in sorted(files, key=lambda path: path.split("/"))
    ]
    return f"{hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest()}.dir"


def ignored(name):
    """What .dvcignore leaves out of folders."""
    return name == ".snakemake_timestamp" or name.endswith(".pyc")
