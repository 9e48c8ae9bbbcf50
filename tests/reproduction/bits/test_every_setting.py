"""Every setting of the problems as bits, changed, reaches what depends on it; and this test can fail."""

from dataclasses import replace

import pytest
from helpers.every_setting import FormerRun, Pipeline, finished

from reproduction.bits.settings import Bits
from reproduction.stage import Stage

PIPELINE = Pipeline(
    "bits",
    Bits,
    changes={"arms": ["random_tbc", "learned_tbc", "ordered"], "mmd_points": 8},
    echoes={"points", "mmd_points"},
)
former = finished(PIPELINE)


@pytest.mark.parametrize("key", PIPELINE.keys)
def test_every_setting_reaches_what_depends_on_it(former, key, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check(key)


def test_a_setting_that_a_part_does_not_name_is_noticed(former, tmp_path, monkeypatch):
    """The model of the old learning rate is taken for that of the new one."""
    part = Stage.part

    def forgetful(stage, name, outputs, settings, inputs=()):
        return part(
            stage, name, outputs, {key: value for key, value in settings.items() if key != "lr"}, inputs
        )

    monkeypatch.setattr(Stage, "part", forgetful)
    before = FormerRun(PIPELINE, tmp_path / "before")
    monkeypatch.chdir(before.copy(tmp_path / "copy"))
    with pytest.raises(AssertionError, match="samples/8gaussians"):
        before.check("lr")


def test_a_setting_that_no_stage_names_is_noticed(former, tmp_path, monkeypatch):
    """DVC does not run a stage again for it."""
    fewer = replace(PIPELINE)
    fewer.stages = [replace(stage, keys=("bits.smoke.seeds",)) for stage in PIPELINE.stages]
    before = FormerRun(fewer, tmp_path / "before")
    monkeypatch.chdir(before.copy(tmp_path / "copy"))
    with pytest.raises(AssertionError, match="lr changes nothing"):
        before.check("lr")
