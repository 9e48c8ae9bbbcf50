"""Every setting of the stations, changed, reaches what depends on it."""

import pytest
from helpers.every_setting import Pipeline, finished

from mlegfn.data import digits, save_images
from reproduction.gallery.settings import Gallery

PIPELINE = Pipeline(
    "gallery",
    Gallery,
    others={"algorithms.network.block_out_channels": [8, 12], "algorithms.network.norm_num_groups": 2},
    echoes={"settings"},
)
former = finished(PIPELINE, prepare_inputs=lambda: save_images(digits.load().limited(64, 16), "data/smoke"))


@pytest.mark.parametrize("key", PIPELINE.keys)
def test_every_setting_reaches_what_depends_on_it(former, key, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check(key)


@pytest.mark.parametrize("name", [stage.name for stage in PIPELINE.stages])
def test_a_stage_reads_no_setting_that_dvc_yaml_does_not_name(former, name, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check_others(name)
