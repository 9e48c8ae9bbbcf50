"""The settings of the families: broken ones give one line each, which names the key."""

import pytest
from helpers.parts import settings_of, with_value

from mlegfn import families
from mlegfn.errors import UserError
from reproduction.families.settings import Families

SMOKE = settings_of(Families, "families")
NAME = next(iter(SMOKE.settings))


def test_families_are_files():
    raw = {**SMOKE.model_dump()["settings"], "vampire": SMOKE.settings[NAME].model_dump()}
    with pytest.raises(UserError) as error:
        with_value(SMOKE, ("settings",), raw)
    assert str(error.value) == (
        f"params.yaml: settings: no family 'vampire'; there are {', '.join(families.names())}"
    )
    with pytest.raises(ValueError, match="unknown family 'shared'"):
        families.load("shared")


@pytest.mark.parametrize(
    "path, value, line",
    [
        ("seeds", [1, 1], "names something twice"),
        ("settings", {}, "expected a block of settings"),
        (f"settings.{NAME}.lr", 0, "expected a number > 0, got 0"),
        (f"settings.{NAME}.timesteps", 1, "expected an integer ≥ 2, got 1"),
    ],
)
def test_what_each_mistake_says(path, value, line):
    with pytest.raises(UserError) as error:
        with_value(SMOKE, tuple(path.split(".")), value)
    assert str(error.value).startswith(f"params.yaml: {path}: {line}")
