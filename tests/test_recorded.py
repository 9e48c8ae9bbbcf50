"""What is recorded was made with the settings that are committed: figures of other settings would show what nobody can run."""

from functools import cache

import yaml
from conftest import REPOSITORY
from ruamel.yaml import YAML

from mlegfn.pipeline import lockfile


@cache
def settings():
    return YAML(typ="safe", pure=True).load((REPOSITORY / "params.yaml").read_text())


def found(key):
    value = settings()
    for part in key.split("."):
        value = value[part]
    return value


def test_recorded_settings_are_those_of_params_yaml():
    # Entry by entry: DVC names anchors anew in each one that it writes.
    entries = lockfile.split((REPOSITORY / "dvc.lock").read_text())
    recorded = [
        (stage, key, value)
        for stage, text in entries.items()
        for key, value in yaml.safe_load(text)[stage].get("params", {}).get("params.yaml", {}).items()
    ]
    assert len({stage for stage, _, _ in recorded}) > 100
    assert not [f"{stage}: {key}" for stage, key, value in recorded if found(key) != value]
