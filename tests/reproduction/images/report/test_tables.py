"""The tables of the image experiment: NLL, every run, the search, log p, sample quality."""

import io
import json

import pandas
import pytest
from helpers import synthetic_images as synthetic
from scipy import stats

from mlegfn.errors import UserError
from reproduction.drawing.tables import signed
from reproduction.images.report import comparison, tables
from reproduction.images.report.metrics import Metrics
from reproduction.verdicts import statistics

SMALL = {"checkpoints": (20, 40), "stop": 60, "evaluate_at": (4, 8)}


@pytest.fixture
def small(tmp_path):
    """Metrics of a small scale under tmp_path."""
    return synthetic.write(synthetic.settings(**SMALL), tmp_path, images=20)


def test_the_csv_has_full_precision(small):
    files = tables.make(small)
    frame = pandas.read_csv(io.StringIO(files["nll.csv"]))
    row = frame[(frame.checkpoint == 20) & (frame.arm == "simple_tbc")].iloc[0]
    own = small.per_image(20, "simple_tbc", 8)
    interval = statistics.paired(comparison.differences(small, 20, "simple_tbc", "simple", 8))
    assert row.bits_per_dim == own.mean(axis=1).mean()
    assert row.standard_error_seeds == pytest.approx(stats.sem(own.mean(axis=1)))
    assert (row.minus_simple, row.minus_simple_low, row.minus_simple_high) == interval[:3]
    assert row.step == 28 and row.seeds == 3 and row.forward_evaluations == 8 * 64
    baseline = frame[frame.arm == "baseline"]
    assert list(baseline.checkpoint) == [20, 40, 60] and baseline.minus_simple.isna().all()
    means = small.baseline_per_image(60).mean(axis=1)
    assert baseline.bits_per_dim.iloc[2] == pytest.approx(means.mean()) and (baseline.seeds == 3).all()
    assert baseline.standard_error_seeds.iloc[2] == pytest.approx(stats.sem(means))


def test_every_run_is_compared_with_those_of_its_seed(small):
    every = pandas.read_csv(io.StringIO(tables.make(small)["paired.csv"]))
    assert len(every) == 2 * 5 * 3 * 2
    for arm, reference in (("simple_tbc", "reweighted"), ("vlb_tbc", "vlb"), ("vlb", "simple")):
        one = every[(every.checkpoint == 40) & (every.arm == arm) & (every.seed == 1)].iloc[1]
        own, other = (small.runs[40, name, 1][8].per_image for name in (arm, reference))
        assert one[f"minus_{reference}"] == pytest.approx((own - other).mean())
        assert one[f"minus_{reference}_standard_error"] == pytest.approx(stats.sem(own - other))
    assert every[every.arm == "reweighted"].minus_reweighted.isna().all()


def test_the_search_shows_every_combination_and_the_chosen_one(small, tmp_path):
    path = tmp_path / "digits/images/metrics/finetune/vlb/choice.json"
    choice = json.loads(path.read_text())
    choice["tried"][-1].update(bits_per_dim=None, clipped_share=None)
    path.write_text(json.dumps(choice))
    files = tables.make(Metrics("digits", small.settings, synthetic.ARMS, tmp_path))
    frame = pandas.read_csv(io.StringIO(files["search.csv"]))
    assert list(frame.groupby("arm", sort=False).size()) == [6] * 5
    for arm, rows in frame.groupby("arm"):
        assert list(rows.chosen) == [True] + [False] * 5
        assert rows.bits_per_dim.min() == rows.bits_per_dim.iloc[0]
        trials = getattr(small.settings.finetune, arm).trials()
        assert list(rows.lr) == [trial["lr"] for trial in trials]
        assert list(rows.weight.dropna()) == [trial["weight"] for trial in trials if "weight" in trial]
    lines = [line for line in files["search.md"].splitlines() if line.startswith("| vlb ")]
    assert "2.4000" in lines[0] and "0 %" in lines[0] and "yes" in lines[0]
    assert "diverged" in lines[-1] and "yes" not in lines[-1]
    for text in ("checkpoint 40 of seed 0", "8 steps", "180 images"):
        assert text in files["search.md"]


def test_the_table_of_log_p_recovers_the_gains(small):
    files = tables.make(small)
    frame = pandas.read_csv(io.StringIO(files["log_p.csv"])).set_index("model")
    assert list(frame.index) == ["baseline", *synthetic.ARMS]
    for model, gain in synthetic.GAINS.items():
        row = frame.loc[model]
        assert row.log_p - row.elbo == pytest.approx(2) and row.log_p - row.log_p_half == pytest.approx(0.5)
        assert row.standard_error == pytest.approx(0.1 / 3**0.5) and row.seeds == 3 and row.images == 20
        if model != "simple":
            assert row.minus_simple_low < row.minus_simple < row.minus_simple_high
            assert row.minus_simple == pytest.approx(gain, abs=0.002)
    assert pandas.isna(frame.loc["simple"].minus_simple)
    assert "20 test images at checkpoint 40" in files["log_p.md"] and "32 joint" in files["log_p.md"]


def test_how_many_steps_were_clipped_is_in_the_table(tmp_path):
    metrics = synthetic.write(synthetic.settings(**SMALL), tmp_path, images=20, clipped=0.25)
    frame = pandas.read_csv(io.StringIO(tables.make(metrics)["nll.csv"]))
    tuned = frame.arm != "baseline"
    assert (frame[tuned].clipped_steps == 0.25).all() and frame[~tuned].clipped_steps.isna().all()


def test_the_markdown_states_its_conditions(small):
    files = tables.make(small)
    for word in (
        "exact Gaussian CDF",
        "20 test images",
        "T = 50",
        "3 pretraining seeds",
        "not clipped",
        "17 levels",
    ):
        assert word in files["nll.md"], word
    assert signed(-0.00123) == "−0.0012" and signed(float("nan")) == ""


def test_the_table_has_the_floor_and_says_what_was_not_measured(tmp_path):
    metrics = synthetic.write(synthetic.settings(**SMALL), tmp_path, images=20, quality=0.3)
    files = tables.make(metrics)
    frame = pandas.read_csv(io.StringIO(files["quality.csv"]))
    assert list(frame.model) == ["training images (floor)", "baseline", *synthetic.ARMS]
    assert list(frame.swd_pixels) == [0.2] + [0.3] * 6
    assert list(frame.swd_pixels_over_floor[1:]) == pytest.approx([1.5] * 6)
    assert list(frame.step[1:]) == [40] + [48] * 5
    assert frame.fid.isna().all() and frame.note.str.startswith("not measured").all()
    rows = [line for line in files["quality.md"].splitlines() if line.startswith("|")][2:]
    assert len(rows) == 7 and all(row.count("not measured") == 2 for row in rows)
    assert "0.2000 ± 0.0100" in rows[0] and "1.50" in rows[1]
    assert "not measured: quality.inception" in files["quality.md"] and "it is no FID" in files["quality.md"]


def test_the_table_shows_fid_where_it_was_measured(tmp_path):
    metrics = synthetic.write(synthetic.settings(**SMALL), tmp_path, images=20)
    for path in (tmp_path / "digits/images/metrics/quality").iterdir():
        value = json.loads(path.read_text())
        score = {"mean": 4.5, "standard_deviation": 0.25, "splits": 10}
        value.update(fid=12.345, inception_score=score, why=None)
        value["floor"].update(fid=2.5, inception_score={**score, "standard_deviation": None})
        path.write_text(json.dumps(value))
    text = tables.make(metrics)["quality.md"]
    assert "12.35" in text or "12.34" in text
    assert "4.50 ± 0.25" in text and "2.50" in text
    assert "not measured" not in text and "torch-fidelity" in text


def test_metrics_that_do_not_fit_together_are_refused_in_one_line(tmp_path):
    metrics = synthetic.write(synthetic.settings(**SMALL), tmp_path, images=20)
    path = tmp_path / "digits/images/metrics/quality/simple_tbc.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "images": 7}))
    with pytest.raises(UserError, match=r"its images is 7.*dvc repro quality@digits") as error:
        tables.make(metrics)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(UserError, match=r"not found.*quality@digits"):
        tables.make(metrics)


def test_tables_say_which_estimator_made_a_number(tmp_path):
    settings = synthetic.settings(**SMALL)
    assert "every t of every image" in tables.make(synthetic.write(settings, tmp_path))["nll.md"]
    for path in (tmp_path / "digits/images/metrics/nll").glob("*/*.json"):
        value = json.loads(path.read_text())
        points = [point | {"estimator_standard_error": 0.00123} for point in value["points"]]
        new = {"estimator": "stratified", "network_evaluations_per_image": 12.04, "points": points}
        path.write_text(json.dumps(value | new))
    made = tables.make(Metrics("digits", settings, synthetic.ARMS, tmp_path))
    for name in ("nll", "paired"):
        assert "12.04 of the 50 t an image (`stratified`" in made[f"{name}.md"]
        assert "at most 0.00123" in made[f"{name}.md"]
        header, first = (line.split(",") for line in made[f"{name}.csv"].splitlines()[:2])
        row = dict(zip(header, first))
        assert row["estimator"] == "stratified" and float(row["standard_error_estimator"]) == 0.00123
    path.write_text(json.dumps(value))  # one file by the other estimator
    with pytest.raises(UserError, match="its estimator is"):
        Metrics("digits", settings, synthetic.ARMS, tmp_path)
