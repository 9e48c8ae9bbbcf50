"""What a stage was told when it started: its settings and its source code.

DVC records the settings and code that it finds when a stage *ends*. Whoever edits params.yaml while a stage
runs (or pulls) would get an old result recorded under new settings, so a stage compares and fails instead.
"""

import hashlib
import json
from pathlib import Path

from mlegfn.artifacts import sha256
from mlegfn.pipeline.engine import read
from mlegfn.yaml_file import read_yaml


def snapshot(name, scale_name):
    """Hex digest of the settings and sources that dvc.yaml declares for the stage ``name``."""
    stage = read(scale_name).stages[name]
    values = read_yaml("params.yaml")
    settings = {key: look_up(values, key) for key in stage.params}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for dep in stage.deps:
        if dep.startswith(("src/", "claims")):
            modules = sorted(Path(dep).rglob("*.py")) if Path(dep).is_dir() else [Path(dep)]
            for module in modules:
                found = sha256(module) if module.is_file() else "missing"
                digest.update(f"{module}:{found}\n".encode())
    return digest.hexdigest()


def look_up(values, key):
    """The value under a dotted key."""
    for part in key.split("."):
        values = values[part]
    return values
