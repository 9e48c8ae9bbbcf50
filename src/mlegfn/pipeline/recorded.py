"""What dvc.lock says of each stage, and which commit said so first; without DVC, whose parser takes minutes for all."""

import functools
import os
from pathlib import Path

from mlegfn.errors import UserError
from mlegfn.pipeline import lockfile
from mlegfn.pipeline.git import quietly
from mlegfn.pipeline.lock_yaml import parse
from mlegfn.yaml_file import read_yaml

LOCK = "dvc.lock"


class Lock:
    """The entries of the dvc.lock in this checkout; none if there is no such file."""

    def __init__(self):
        try:
            text = Path(LOCK).read_text(encoding="utf-8")
        except FileNotFoundError:
            text = lockfile.HEADER
        except UnicodeDecodeError:
            raise UserError(f"{LOCK}: not a text file; restore it from git") from None
        self.texts = lockfile.split(text)
        # Laid out by another hand: parse it whole, and let the parser complain about what is no YAML at all.
        self._whole = None if self.texts is not None else (read_yaml(LOCK) or {}).get("stages") or {}

    def entry(self, name):
        """{"command", "parameters", "inputs", "outputs"} of a stage as recorded, None if it never was."""
        if self._whole is not None:
            found = self._whole.get(name)
        elif name in self.texts:
            found = parse(self.texts[name])[name]
        else:
            found = None
        if found is None:
            return None
        return {
            "command": found.get("cmd"),
            "parameters": {k: v for group in (found.get("params") or {}).values() for k, v in group.items()},
            "inputs": {dep["path"]: dep.get("md5") for dep in found.get("deps") or ()},
            "outputs": {out["path"]: out.get("md5") for out in found.get("outs") or ()},
        }

    def commit(self, name):
        """The commit that last changed the stage's entry; None without git or where it is not committed."""
        if self.texts is None:
            return None
        return commits(os.getcwd(), head()).get((name, self.texts.get(name)))


def head():
    """The commit that is checked out, None without git."""
    done = quietly("rev-parse", "--verify", "--quiet", "HEAD")
    return None if done is None else done.decode().strip()


@functools.cache
def commits(_folder, commit):
    """{(stage, its entry's text): the oldest commit of the unbroken row up to ``commit`` that has it so}."""
    listed = quietly("log", "--format=%H", commit, "--", LOCK) if commit else None
    found, open_ = {}, None
    for each in (listed or b"").decode().split():  # newest first
        content = quietly("cat-file", "blob", f"{each}:{LOCK}")
        texts = lockfile.split((content or b"").decode(errors="replace"))
        if texts is None:
            break
        if open_ is None:
            open_ = texts
        open_ = {name: text for name, text in open_.items() if texts.get(name) == text}
        if not open_:
            break
        found |= dict.fromkeys(open_.items(), each)
    return found
