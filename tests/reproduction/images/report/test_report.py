"""The stage ``report``: equal bytes again, and the committed results of the scale digits from their metrics."""

import shutil

import pytest
from helpers import synthetic_images as synthetic
from helpers.image_stages import image_settings, prepare, run_stage
from helpers.repository import REPOSITORY

from reproduction.drawing import style

TABLES = ("nll", "paired", "search", "log_p", "quality")


def written(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("figures", "tables", "report")
        for path in (folder / part).iterdir()
    }


def test_the_stage_writes_its_files_again_with_equal_bytes(tmp_path, monkeypatch):
    settings = synthetic.settings(checkpoints=(20, 40), stop=60, evaluate_at=(4, 8))
    monkeypatch.chdir(prepare(tmp_path))
    synthetic.write(settings, "results", images=20)
    synthetic.write_samples(settings, "results")
    monkeypatch.setattr(style, "FORMATS", ("svg",))  # the others cost time and have a test of their own
    made = []
    for _ in range(2):
        stage = run_stage("images.report", settings, scale="digits", arms=synthetic.ARMS)
        made.append(written(stage.path()))
    assert made[0] == made[1]
    assert set(made[0]) == {
        *(f"figures/figure{k}.{ending}" for k in (1, 3) for ending in ("md", "svg")),
        *(f"tables/{name}.{ending}" for name in TABLES for ending in ("csv", "md")),
        "report/verdict.json",
        "report/verdict.md",
    }


def test_the_committed_tables_and_verdicts_follow_from_the_committed_metrics(tmp_path, monkeypatch):
    committed = REPOSITORY / "results" / "digits" / "images"
    settings = image_settings("digits")
    monkeypatch.chdir(prepare(tmp_path))
    shutil.copytree(committed / "metrics", "results/digits/images/metrics")
    synthetic.write_samples(settings, "results")  # the true ones are in DVC's cache; Figure 3 shows them
    monkeypatch.setattr(style, "FORMATS", ("svg",))
    made = written(run_stage("images.report", settings, scale="digits", arms=synthetic.ARMS).path())
    compared = [name for name in made if "figure3" not in name]
    assert len(compared) == 2 + 2 * len(TABLES) + 2
    for name in compared:
        assert made[name] == (committed / name).read_bytes(), name


@pytest.mark.parametrize("name", ["cifar10_cpu"])
def test_the_tables_of_a_scale_with_a_sampled_likelihood_say_so(name):
    text = (REPOSITORY / "results" / name / "images" / "tables" / "nll.md").read_text()
    assert "`stratified`" in text
