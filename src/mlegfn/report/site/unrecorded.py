"""The provenance of a stage from dvc.lock and git alone, for a checkout without mlegfn.pipeline.provenance."""

import re
import subprocess
from functools import cache
from pathlib import Path


def reconstructed(name):
    """What dvc.lock and git know of a stage; None where dvc.lock has no entry of it."""
    entry = lock("").get(name)
    if entry is None:
        return None
    import yaml

    found = yaml.load(entry, getattr(yaml, "CSafeLoader", yaml.SafeLoader))[name]
    unknown = ("dirty", "started", "wall_s", "peak_memory_mib", "device", "python", "packages")
    parameters = next(iter(found.get("params", {}).values()), {})
    return {
        **dict.fromkeys((*unknown, "requirements_lock")),
        "stage": name,
        "command": found["cmd"],
        "commit": changed(name, entry),
        "parameters": parameters,
        "seeds": {key: value for key, value in parameters.items() if re.search(r"\.seeds?$", key)},
        "inputs": {each["path"]: each["md5"] for each in found.get("deps", [])},
        "outputs": {each["path"]: each["md5"] for each in found.get("outs", [])},
        "recorded": False,
    }


@cache
def lock(revision):
    """``{stage: its lines}`` of dvc.lock at a git revision; of the file itself at the revision "" ."""
    from mlegfn.pipeline import lockfile

    if not revision:
        path = Path("dvc.lock")
        return (lockfile.split(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}
    return lockfile.split(git("show", f"{revision}:dvc.lock")) or {}


def changed(name, entry):
    """The commit that last changed a stage's entry of dvc.lock; None where none did."""
    last = None
    for revision in git("log", "--format=%H", "--", "dvc.lock").split():
        if lock(revision).get(name) != entry:
            break
        last = revision
    return last


def git(*arguments):
    """What a git command prints; empty where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""
