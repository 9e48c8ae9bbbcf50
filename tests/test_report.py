"""The report layer: intervals against scipy and by simulation, comparisons in closed form, figures and tables."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import synthetic_metrics as synthetic
from scipy import stats

from mlegfn.errors import UserError
from mlegfn.report import (
    comparison,
    density,
    figure1,
    figure2,
    figure3,
    figures,
    inputs,
    statistics,
    style,
    tables,
)
from mlegfn.report.metrics import Metrics

SMALL = {"checkpoints": (20, 40), "stop": 60, "evaluate_at": (4, 8), "problems": ["moons", "circles"]}


@pytest.fixture
def small(tmp_path):
    """Metrics and samples of a small scale under tmp_path."""
    settings = synthetic.scale(**SMALL)
    synthetic.write_samples(settings, tmp_path, points=300)
    return synthetic.write(settings, tmp_path, images=20)


# --- statistics ---------------------------------------------------------------------------------------------


def test_student_is_scipys():
    values = np.random.default_rng(0).normal(3, 2, 7)
    mean, low, high = statistics.student(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((values.mean(), expected.low, expected.high))


def test_three_seeds_known_by_hand():
    # mean 2, s = 1, t_2(0.975) = 4.302653
    assert statistics.student([1.0, 2.0, 3.0]) == pytest.approx(
        (2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5)
    )


def test_one_value_has_no_interval():
    mean, low, high = statistics.student([1.5])
    assert mean == 1.5 and np.isnan(low) and np.isnan(high)
    with pytest.raises(ValueError, match="two values"):
        statistics.half_width([1.0])
    with pytest.raises(ValueError, match="two images"):
        statistics.paired([[1.0], [2.0]])


def test_one_seed_is_the_paired_t_test_over_images():
    a, b = np.random.default_rng(1).normal(size=(2, 40))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = statistics.paired((a - b)[None])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.seeds, found.images) == (1, 40)


def test_paired_is_never_narrower_than_seeds_or_images_alone():
    differences = np.random.default_rng(2).normal(size=(3, 30))
    found = statistics.paired(differences)
    for axis in (0, 1):
        _, low, high = statistics.student(differences.mean(axis=axis))
        assert found.low < low and found.high > high


@pytest.mark.parametrize("seeds, images", [(3, 40), (5, 20)])
@pytest.mark.parametrize("spread", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.3, 1, 1), (1, 1, 1)])
def test_paired_covers_at_least_95_percent(seeds, images, spread):
    generator = np.random.default_rng(3)
    of_seed, of_image, of_both = spread
    n, hit = 800, 0
    for _ in range(n):
        differences = (
            of_seed * generator.normal(size=(seeds, 1)) / 4
            + of_image * generator.normal(size=(1, images))
            + of_both * generator.normal(size=(seeds, images))
        )
        found = statistics.paired(differences)
        hit += found.low <= 0 <= found.high
    assert hit / n > 0.95 - 3 * (0.05 * 0.95 / n) ** 0.5


def test_seeds_alone_would_not_cover_images():
    """The negative control: with image effects, an interval over three seeds that share them misses often."""
    generator, n, hit = np.random.default_rng(4), 400, 0
    for _ in range(n):
        differences = generator.normal(size=(1, 30)) + 0.1 * generator.normal(size=(3, 30))
        _, low, high = statistics.student(differences.mean(axis=1))
        hit += low <= 0 <= high
    assert hit / n < 0.6


def test_bootstrap_agrees_with_theory_where_there_are_many_seeds():
    generator = np.random.default_rng(5)
    differences = generator.normal(size=(60, 1)) + generator.normal(size=(1, 60)) + 0.01
    low, high = statistics.bootstrap(differences, draws=2000)
    wide = statistics.paired(differences)
    assert (low, high) == pytest.approx((wide.low, wide.high), abs=0.08)
    assert (low, high) == statistics.bootstrap(differences, draws=2000)


@pytest.mark.parametrize(
    "outcomes, expected",
    [
        ([True, True], True),
        ([True, False], False),
        ([True, None], None),
        ([False, None], False),
        ([], None),
    ],
)
def test_every(outcomes, expected):
    assert statistics.every(outcomes) is expected


def test_intersection_union_keeps_its_level():
    """One of five parts is exactly null, the others hold: all five pass together in at most 2.5 % of cases."""
    generator, n, passed = np.random.default_rng(6), 1500, 0
    for _ in range(n):
        means = np.array([0, -9, -9, -9, -9])
        parts = [statistics.student(mean + generator.normal(size=3)) for mean in means]
        passed += statistics.every(high < 0 for _, _, high in parts) is True
    assert passed / n < 0.025 + 3 * (0.025 / n) ** 0.5


# --- comparisons --------------------------------------------------------------------------------------------


def test_the_baseline_is_linear_between_saved_steps(small):
    first, second = (small.baseline[step].per_image for step in (20, 40))
    own = small.per_image(20, "tbc", 8)
    found = comparison.differences(small, 20, "tbc", "baseline", 8)
    assert found == pytest.approx(own - (0.6 * first + 0.4 * second))
    at_next = comparison.differences(small, 20, "tbc", "baseline_next", 8)
    assert at_next == pytest.approx(own - second)


def test_arms_are_compared_seed_by_seed(small):
    found = comparison.differences(small, 40, "tbc", "simple", 4)
    assert found.shape == (3, 20)
    for row, seed in zip(found, small.seeds):
        own, other = (small.runs[40, arm, seed][4].per_image for arm in ("tbc", "simple"))
        assert row == pytest.approx(own - other)


def test_equal_evaluations_meet_at_the_smaller_budget(tmp_path):
    metrics = synthetic.write(synthetic.scale(**SMALL), tmp_path, images=5, cost=1.5)
    simple, tbc = (metrics.spent(20, arm, 8) for arm in ("simple", "tbc"))
    assert tbc == 1.5 * simple
    assert comparison.budgets(metrics, 20, "tbc", "simple", "evaluations") == [0.75 * simple, simple]
    # `simple` ends at a third between the points 4 and 8 of the dearer arm
    found = comparison.differences(metrics, 20, "tbc", "simple", simple, "evaluations")
    own = metrics.per_image(20, "tbc", 4) * 2 / 3 + metrics.per_image(20, "tbc", 8) / 3
    assert found == pytest.approx(own - metrics.per_image(20, "simple", 8))


def test_no_comparison_before_the_first_measured_point(tmp_path):
    metrics = synthetic.write(synthetic.scale(**SMALL), tmp_path, images=5, cost=10)
    assert comparison.budgets(metrics, 20, "tbc", "simple", "evaluations") == []
    assert comparison.budgets(metrics, 20, "tbc", "simple", "steps") == [4, 8]


def test_the_baseline_ends_the_comparison(tmp_path):
    settings = synthetic.scale(**{**SMALL, "stop": 46})
    metrics = synthetic.write(settings, tmp_path, images=5)
    assert comparison.budgets(metrics, 40, "tbc", "baseline") == [4, 6]
    assert comparison.budgets(metrics, 40, "tbc", "baseline_next") == [4]


# --- metrics ------------------------------------------------------------------------------------------------


def test_files_of_removed_seeds_are_not_read(small, tmp_path):
    folder = tmp_path / "digits" / "metrics"
    (folder / "nll" / "20-tbc-9.json").write_text("not JSON")
    (folder / "planar" / "pinwheel.json").write_text("not JSON")
    again = Metrics("digits", small.scale, tmp_path)
    assert tables.make(again) == tables.make(small)


@pytest.mark.parametrize(
    "file, stage",
    [
        ("nll/baseline-60.json", "nll@digits-baseline-60"),
        ("nll/20-vlb-1.json", "nll@digits-20-vlb-1"),
        ("finetune/40-tbc-2.json", "finetune@digits-40-tbc-2"),
        ("planar/moons.json", "planar@digits-moons"),
    ],
)
def test_a_missing_file_names_its_stage(small, tmp_path, file, stage):
    (tmp_path / "digits" / "metrics" / file).unlink()
    with pytest.raises(UserError) as error:
        Metrics("digits", small.scale, tmp_path)
    assert file in str(error.value) and f"dvc repro {stage}" in str(error.value)
    assert "\n" not in str(error.value)


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
    return json.dumps(value)


@pytest.mark.parametrize(
    "how", ["truncated", "a list", "no points", "other T", "fewer images", "no clipped value"]
)
def test_a_broken_file_is_one_line(small, tmp_path, how):
    path = tmp_path / "digits" / "metrics" / "nll" / "40-simple-0.json"
    path.write_text(_broken(json.loads(path.read_text()), how))
    with pytest.raises(UserError) as error:
        Metrics("digits", small.scale, tmp_path)
    assert "40-simple-0.json" in str(error.value) and "\n" not in str(error.value)


# --- figures ------------------------------------------------------------------------------------------------

RENDER = """
import sys
from pathlib import Path
import synthetic_metrics as synthetic
from mlegfn.report import figures
from mlegfn.report.metrics import Metrics
root = Path(sys.argv[1])
settings = synthetic.scale(checkpoints=(20, 40), stop=60, evaluate_at=(4, 8), problems=["moons", "circles"])
for name, content in figures.make(Metrics("digits", settings, root), root).items():
    path = Path(sys.argv[2]) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
"""


def test_equal_input_gives_equal_bytes(small, tmp_path):
    """Two processes with different hash seeds, dates, and one with a matplotlibrc of the user's own."""
    here = Path(__file__).parent
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.facecolor: red\nsvg.hashsalt: other\n")
    for k, more in enumerate(
        ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "5", "TZ": "Asia/Tokyo"})
    ):
        if k:
            more["MATPLOTLIBRC"] = str(tmp_path / "matplotlibrc")
        paths = os.pathsep.join([str(here), str(here.parent / "src")])
        subprocess.run(
            [sys.executable, "-c", RENDER, str(tmp_path), str(tmp_path / f"out{k}")],
            env={**os.environ, "PYTHONPATH": paths, **more},
            check=True,
        )
    names = sorted(path.name for path in (tmp_path / "out0").iterdir())
    assert names == sorted(f"figure{k}.{ending}" for k in (1, 2, 3) for ending in ("md", "pdf", "png", "svg"))
    for name in names:
        content = (tmp_path / "out0" / name).read_bytes()
        assert content == (tmp_path / "out1" / name).read_bytes(), name
        assert b"matplotlib.org" not in content or name.endswith("svg")  # its comment has no version
        for mark in (b"CreationDate", b"<dc:date>", b"Matplotlib v", b"Matplotlib version"):
            assert mark not in content, (name, mark)


def _texts(figure):
    from matplotlib.text import Text

    figure.canvas.draw()
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]


def _in_style(plot, *arguments):
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style.SETTINGS)
        figure = plot(*arguments)
        FigureCanvasAgg(figure)
        return figure, _texts(figure)


def test_every_font_is_7_points_and_every_text_on_the_page(small, tmp_path):
    folder = tmp_path / "digits" / "samples"
    planar = {p: inputs.arrays(folder / f"planar-{p}.safetensors", (), "") for p in ("moons", "circles")}
    images = inputs.arrays(folder / "trajectories.safetensors", (), "")
    for plot, arguments in (
        (figure1.plot, (small,)),
        (figure2.plot, (planar,)),
        (figure2.plot, ({},)),
        (figure3.plot, (images, 17)),
    ):
        figure, texts = _in_style(plot, *arguments)
        assert texts and all(text.get_fontsize() >= 7 for text in texts)
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert drawn.x0 > -0.01 and drawn.y0 > -0.01
        assert drawn.x1 < width + 0.01 and drawn.y1 < height + 0.01


def test_figure_1_draws_the_numbers(small):
    figure, _ = _in_style(figure1.plot, small)
    lines = figure.axes[0].get_lines()
    assert lines[0].get_ydata() == pytest.approx([p.bits_per_dim for p in small.baseline.values()])
    expected = [small.baseline[20].bits_per_dim] + [small.per_image(20, "tbc", n).mean() for n in (4, 8)]
    assert lines[1].get_xdata() == pytest.approx([20, 24, 28])
    assert lines[1].get_ydata() == pytest.approx(expected)


@pytest.mark.parametrize(
    "change",
    [
        {"arms": ["tbc"]},
        {"arms": ["simple"]},
        {"arms": ["simple", "vlb"]},
        {"seeds": (4,)},
        {"seeds": (4, 9), "stop": 46},
        {"checkpoints": tuple(range(20, 200, 20)), "stop": 200, "evaluate_at": tuple(range(1, 13))},
    ],
    ids=str,
)
def test_figure_1_and_tables_at_any_scale(tmp_path, change):
    metrics = synthetic.write(synthetic.scale(**{**SMALL, **change}), tmp_path, images=6)
    _in_style(figure1.plot, metrics)
    files = {**tables.make(metrics), "figure1.md": figure1.caption(metrics)}
    assert all(text.endswith("\n") and "nan" not in text.lower() for text in files.values())
    seeds = len(metrics.seeds)
    assert (f"{seeds} fine-tuning seeds" if seeds > 1 else "no bands") in files["figure1.md"]


def test_checkpoint_colours_go_from_dark_to_light():
    """Told apart by lightness alone, so under any colour blindness, and all darker than the page."""
    for n in (1, 2, 9):
        light = [np.dot((0.2126, 0.7152, 0.0722), colour[:3]) for colour in style.checkpoint_colours(n)]
        assert (np.diff(light) > 0.03).all() and max(light) < 0.8


def test_a_broken_samples_file_is_one_line(small, tmp_path):
    path = tmp_path / "digits" / "samples" / "planar-moons.safetensors"
    for content in (b"", path.read_bytes()[:100]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"planar-moons.*dvc repro planar@digits-moons") as error:
            figures.make(small, tmp_path)
        assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(UserError, match=r"not found.*planar@digits-moons"):
        figures.make(small, tmp_path)


def test_density_counts_points_and_what_lies_outside():
    generator = np.random.default_rng(8)
    points = generator.normal(size=(500, 2)).astype(np.float32)
    frame = density.window(points)
    (left, right), (bottom, top) = frame
    assert right - left == pytest.approx(top - bottom)
    assert figure2.outside(points, frame) < 0.02
    assert figure2.outside(points + 100, frame) == 1
    inside = 1 - figure2.outside(points, frame)
    assert density.density(points, frame).sum() == pytest.approx(inside, abs=0.01)


def test_sheets_keep_every_pixel():
    images = np.random.default_rng(9).uniform(size=(2, 3, 8, 8, 3))
    page = figure3.sheet(images)
    zoom = figure3.SIDE // 8
    assert page.shape == (2 * 64 + figure3.GAP, 3 * 64 + 2 * figure3.GAP, 3)
    assert page[64 + figure3.GAP :: zoom, :64:zoom][:8] == pytest.approx(images[1, 0])
    grey = figure3.pixels(np.zeros((4, 1, 8, 8)))
    assert grey.shape == (4, 8, 8, 3)


# --- tables and stages --------------------------------------------------------------------------------------


def test_the_csv_has_full_precision(small):
    files = tables.make(small)
    frame = pandas.read_csv(io.StringIO(files["nll.csv"]))
    row = frame[(frame.checkpoint == 20) & (frame.arm == "tbc")].iloc[0]
    own = small.per_image(20, "tbc", 8)
    interval = statistics.paired(comparison.differences(small, 20, "tbc", "simple", 8))
    assert row.bits_per_dim == own.mean(axis=1).mean()
    assert row.standard_error_seeds == pytest.approx(stats.sem(own.mean(axis=1)))
    assert (row.minus_simple, row.minus_simple_low, row.minus_simple_high) == interval[:3]
    assert row.step == 28 and row.seeds == 3 and row.forward_evaluations == 10 * 8 * 64
    baseline = frame[frame.arm == "baseline"]
    assert list(baseline.checkpoint) == [20, 40, 60] and baseline.minus_simple.isna().all()
    every = pandas.read_csv(io.StringIO(files["paired.csv"]))
    assert len(every) == 2 * 3 * 3 * 2
    one = every[(every.checkpoint == 40) & (every.arm == "tbc") & (every.seed == 1)].iloc[1]
    assert one.minus_vlb == pytest.approx(
        (small.runs[40, "tbc", 1][8].per_image - small.runs[40, "vlb", 1][8].per_image).mean()
    )
    planar = pandas.read_csv(io.StringIO(files["planar.csv"]))
    assert list(planar.model) == ["ddpm", "vlb", "mle_gfn"] * 2
    assert (planar.mmd_floor_quantile_95 == 0.02).all()


def test_the_markdown_states_its_conditions(small):
    files = tables.make(small)
    for word in ("exact Gaussian CDF", "20 test images", "T = 50", "3 seeds", "not clipped", "17 levels"):
        assert word in files["nll.md"], word
    assert "64 trajectories" in files["planar.md"] and "data and data" in files["planar.md"]
    assert tables.signed(-0.00123) == "−0.0012" and tables.signed(float("nan")) == ""


def test_the_stages_write_their_files_again_with_equal_bytes(small, tmp_path, monkeypatch):
    from mlegfn.stages import figures as figures_stage
    from mlegfn.stages import tables as tables_stage
    from mlegfn.stages import verdict as verdict_stage

    (tmp_path / "results").mkdir()
    (tmp_path / "digits").rename(tmp_path / "results" / "digits")
    (tmp_path / "claims.yaml").write_bytes((synthetic.PARAMS.parent / "claims.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        style, "FORMATS", ("svg",)
    )  # the other formats cost time and have a test of their own
    written = []
    for _ in range(2):
        for stage in (figures_stage, tables_stage, verdict_stage):
            stage.run("digits", small.scale)
        folder = tmp_path / "results" / "digits"
        written.append(
            {
                str(path.relative_to(folder)): path.read_bytes()
                for part in ("figures", "tables", "report")
                for path in (folder / part).iterdir()
            }
        )
    assert written[0] == written[1]
    assert {"figures/figure1.md", "tables/planar.csv", "report/verdict.json", "report/verdict.md"} <= set(
        written[0]
    )
