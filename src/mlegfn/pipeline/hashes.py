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
    if not Path(path).is_dir():
        with open(path, "rb") as file:
            return of_stream(file)
    return f"{hashlib.md5(listing(path)).hexdigest()}.dir"


def of_stream(file):
    """The hex MD5 of what is left to read of an open binary file."""
    digest = hashlib.md5()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


def of_bytes(content):
    """The hex MD5 of bytes."""
    return hashlib.md5(content).hexdigest()


def listing(path):
    """The list by which DVC keeps a folder in its cache: the MD5s and paths of its files, as JSON bytes."""
    return listed({name: md5(Path(path, name)) for name in files(path)})


def listed(content):
    """``listing`` of a folder with these files, ``{path in it: MD5}``."""
    entries = [{"md5": hash, "relpath": name} for name, hash in content.items()]
    entries.sort(key=lambda entry: tuple(entry["relpath"].split("/")))
    return json.dumps(entries, sort_keys=True).encode()


def folder(content):
    """The hash of a folder with these files, ``{path in it: MD5}``."""
    return f"{of_bytes(listed(content))}.dir"


def files(path):
    """The paths in a folder of the files that DVC would hash; of a file ``[""]``."""
    if not Path(path).is_dir():
        return [""]
    found = (
        Path(folder, name).relative_to(path).as_posix()
        for folder, _, names in os.walk(path)
        for name in names
    )
    return [name for name in found if not left_out(name)]


def left_out(name):
    """Whether .dvcignore leaves the file with this path out of its folder."""
    return ignored(name.rpartition("/")[2]) or "__pycache__" in name.split("/")[:-1]


def ignored(name):
    """What .dvcignore leaves out of folders."""
    return name == ".snakemake_timestamp" or name.endswith(".pyc")
