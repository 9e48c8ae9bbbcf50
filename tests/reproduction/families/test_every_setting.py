"""Every setting of the model families, changed, reaches what depends on it."""

import pytest
from helpers.every_setting import Pipeline, finished

from reproduction.families.settings import Families

PIPELINE = Pipeline(
    "families",
    Families,
    same={"settings.any_order.timesteps": "a trajectory has as many steps as a datum has entries"},
    echoes={"settings"},
)
former = finished(PIPELINE)


@pytest.mark.parametrize("key", PIPELINE.keys)
def test_every_setting_reaches_what_depends_on_it(former, key, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check(key)


@pytest.mark.parametrize("name", [stage.name for stage in PIPELINE.stages])
def test_a_stage_reads_no_setting_that_dvc_yaml_does_not_name(former, name, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check_others(name)
