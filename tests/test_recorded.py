"""What is recorded was made with the settings that are committed: figures of other settings would show what nobody can run."""

from functools import cache

from conftest import REPOSITORY
from ruamel.yaml import YAML

from mlegfn.pipeline import lockfile

YAML12 = YAML(typ="safe", pure=True)


@cache
def settings():
    return YAML12.load((REPOSITORY / "params.yaml").read_text())


def found(key):
    value = settings()
    for part in key.split("."):
        value = value[part]
    return value


def recorded_settings(entry):
    """{key: value} of an entry of dvc.lock."""
    _, begun, rest = entry.partition("\n    params:\n")
    return YAML12.load(rest.partition("\n    outs:\n")[0]).get("params.yaml", {}) if begun else {}


def test_recorded_settings_are_those_of_params_yaml():
    # Entry by entry, because DVC names anchors anew in each one that it writes; and YAML 1.2, as DVC reads it.
    entries = lockfile.split((REPOSITORY / "dvc.lock").read_text())
    recorded = [
        (stage, key, value)
        for stage, text in entries.items()
        for key, value in recorded_settings(text).items()
    ]
    assert len({stage for stage, _, _ in recorded}) > 100
    assert not [f"{stage}: {key}" for stage, key, value in recorded if found(key) != value]
