"""Metrics of a scale: what is read, and what a file that does not fit says."""

import json

import pytest
from helpers import synthetic_images as synthetic

from mlegfn.errors import UserError
from reproduction.images.report import tables
from reproduction.images.report.metrics import Metrics

SMALL = {"checkpoints": (20, 40), "stop": 60, "evaluate_at": (4, 8)}


@pytest.fixture
def small(tmp_path):
    """Metrics of a small scale under tmp_path."""
    return synthetic.write(synthetic.settings(**SMALL), tmp_path, images=20)


def test_files_of_removed_seeds_are_not_read(small, tmp_path):
    folder = tmp_path / "digits" / "images" / "metrics"
    (folder / "nll" / "simple_tbc" / "20-9.json").write_text("not JSON")
    (folder / "nll" / "baseline" / "20.json").write_text("not JSON")  # of a former version
    again = Metrics("digits", small.settings, synthetic.ARMS, tmp_path)
    assert tables.make(again) == tables.make(small)


@pytest.mark.parametrize(
    "file, stage",
    [
        ("nll/baseline/60-2.json", "baseline_nll@digits"),
        ("nll/vlb/20-1.json", "nll@digits-vlb"),
        ("finetune/simple_tbc/40-2.json", "finetune@digits-simple_tbc"),
        ("finetune/reweighted/choice.json", "finetune@digits-reweighted"),
    ],
)
def test_a_missing_file_names_its_stage(small, tmp_path, file, stage):
    (tmp_path / "digits" / "images" / "metrics" / file).unlink()
    with pytest.raises(UserError) as error:
        Metrics("digits", small.settings, synthetic.ARMS, tmp_path)
    assert file in str(error.value) and f"dvc repro {stage}" in str(error.value)
    assert "\n" not in str(error.value)


def test_each_seed_has_a_baseline_of_its_own(small):
    assert list(small.baseline) == [(step, seed) for step in (20, 40, 60) for seed in (0, 1, 2)]
    assert small.baseline_per_image(40).shape == (3, 20)
    for row, seed in zip(small.baseline_per_image(40), small.seeds):
        assert row == pytest.approx(small.baseline[40, seed].per_image)


def test_log_p_is_that_of_the_last_checkpoint(small):
    assert set(small.log_p) == {
        (model, seed) for model in ("baseline", *synthetic.ARMS) for seed in (0, 1, 2)
    }


def _broken(value, how):
    if how == "truncated":
        return json.dumps(value)[:50]
    if how == "a list":
        return "[]"
    if how == "no points":
        value = {**value, "points": []}
    if how == "other T":
        value = {**value, "timesteps": 7}
    if how == "fewer images":
        value["points"][0]["per_image"] = value["points"][0]["per_image"][:-1]
    if how == "no clipped value":
        del value["points"][0]["bits_per_dim_clipped"]
    if how == "no log p":
        value["log_p"] = None
    return json.dumps(value)


@pytest.mark.parametrize(
    "how", ["truncated", "a list", "no points", "other T", "fewer images", "no clipped value", "no log p"]
)
def test_a_broken_file_is_one_line(small, tmp_path, how):
    path = tmp_path / "digits" / "images" / "metrics" / "nll" / "simple" / "40-0.json"
    path.write_text(_broken(json.loads(path.read_text()), how))
    with pytest.raises(UserError) as error:
        Metrics("digits", small.settings, synthetic.ARMS, tmp_path)
    assert "simple/40-0.json" in str(error.value) and "\n" not in str(error.value)
