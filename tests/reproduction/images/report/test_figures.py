"""Figures 1 and 3: what they draw, and equal bytes for equal input."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import synthetic_images as synthetic
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.drawing import inputs, style
from reproduction.images.report import comparison, figure1, figure3, figures, tables

SMALL = {"checkpoints": (20, 40), "stop": 60, "evaluate_at": (4, 8)}


@pytest.fixture
def small(tmp_path):
    """Metrics and samples of a small scale under tmp_path."""
    settings = synthetic.settings(**SMALL)
    synthetic.write_samples(settings, tmp_path)
    return synthetic.write(settings, tmp_path, images=20)


RENDER = """
import sys
from pathlib import Path
from helpers import synthetic_images as synthetic
from reproduction.images.report import figures
from reproduction.images.report.metrics import Metrics
root = Path(sys.argv[1])
settings = synthetic.settings(checkpoints=(20, 40), stop=60, evaluate_at=(4, 8))
for name, content in figures.make(Metrics("digits", settings, synthetic.ARMS, root), root).items():
    path = Path(sys.argv[2]) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
"""


def test_equal_input_gives_equal_bytes(small, tmp_path):
    """Two processes with different hash seeds, dates, and one with a matplotlibrc of the user's own."""
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.facecolor: red\nsvg.hashsalt: other\n")
    for k, more in enumerate(
        ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "5", "TZ": "Asia/Tokyo"})
    ):
        if k:
            more["MATPLOTLIBRC"] = str(tmp_path / "matplotlibrc")
        paths = os.pathsep.join([str(REPOSITORY / "tests"), str(REPOSITORY / "src")])
        subprocess.run(
            [sys.executable, "-c", RENDER, str(tmp_path), str(tmp_path / f"out{k}")],
            env={**os.environ, "PYTHONPATH": paths, **more},
            check=True,
        )
    names = sorted(path.name for path in (tmp_path / "out0").iterdir())
    assert names == sorted(f"figure{k}.{ending}" for k in (1, 3) for ending in ("md", "pdf", "png", "svg"))
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
    file = tmp_path / "digits" / "images" / "samples" / "trajectories.safetensors"
    images = inputs.arrays(file, (), "")
    for plot, arguments in ((figure1.plot, (small,)), (figure3.plot, (images, 17))):
        figure, texts = _in_style(plot, *arguments)
        assert texts and all(text.get_fontsize() >= 7 for text in texts)
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert drawn.x0 > -0.01 and drawn.y0 > -0.01
        assert drawn.x1 < width + 0.01 and drawn.y1 < height + 0.01


def test_figure_1_draws_the_numbers(small):
    figure, _ = _in_style(figure1.plot, small)
    baseline, marks, arm = figure.axes[0].get_lines()[:3]
    for line in (baseline, marks):
        assert line.get_ydata() == pytest.approx([small.baseline_per_image(n).mean() for n in (20, 40, 60)])
    own = [small.baseline_per_image(20), *(small.per_image(20, "simple_tbc", n) for n in (4, 8))]
    assert arm.get_xdata() == pytest.approx([20, 24, 28])
    assert arm.get_ydata() == pytest.approx([values.mean() for values in own])


def test_the_controls_are_those_of_the_arms(small):
    """A line from zero and a bar, of each arm from each checkpoint, none on top of another."""
    figure, _ = _in_style(figure1.plot, small)
    bars = figure.axes[3].containers
    others = [(step, arm) for step in (20, 40) for arm in synthetic.ARMS if arm != "simple"]
    assert len(bars) == len(others)
    for (step, arm), (mark, _, _) in zip(others, bars):
        wanted = comparison.differences(small, step, arm, "simple", 8).mean()
        assert mark.get_ydata() == pytest.approx([wanted])
        assert mark.get_color() == style.ARMS[arm][0]
    places = [bar[0].get_xdata()[0] for bar in bars]
    assert min(np.diff(places)) > 0.15


SHAPES = {
    "digits": {"checkpoints": (600, 1200), "stop": 1500, "evaluate_at": (60,)},
    "cifar10": {
        "checkpoints": tuple(range(20000, 200000, 20000)),
        "stop": 200000,
        "evaluate_at": (500, 5000),
    },
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("arms", [synthetic.ARMS, synthetic.ARMS[:3]], ids=len)
def test_no_text_of_the_controls_lies_on_another_or_on_a_bar(tmp_path, shape, arms):
    metrics = synthetic.write(
        synthetic.settings(**SHAPES[shape]),
        tmp_path,
        images=6,
        arms=arms,
        shifts={**synthetic.SHIFTS, "reweighted": 0.01},  # a bar that reaches for the legend
    )
    figure, _ = _in_style(figure1.plot, metrics)
    panel = figure.axes[3]
    legend = panel.get_legend()
    entries = [text.get_window_extent() for text in legend.get_texts()]
    assert len(entries) == len(arms) - 1
    for k, entry in enumerate(entries):
        assert panel.get_window_extent().contains(entry.x1, entry.y1)
        assert not any(entry.overlaps(other) for other in entries[:k])
    below = legend.get_window_extent().y0
    for _, caps, (lines,) in panel.containers:
        drawn = [*(cap.get_window_extent() for cap in caps), lines.get_window_extent()]
        assert all(box.y1 < below for box in drawn)
    labels = [label.get_window_extent() for label in panel.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(labels))
    assert panel.xaxis.label.get_window_extent().width <= panel.get_window_extent().width


@pytest.mark.parametrize(
    "change",
    [
        {"arms": ["simple_tbc"]},
        {"arms": ["simple"]},
        {"arms": ["simple", "vlb"]},
        {"seeds": (4,)},
        {"seeds": (4, 9), "stop": 46},
        {"checkpoints": tuple(range(20, 200, 20)), "stop": 200, "evaluate_at": tuple(range(1, 13))},
    ],
    ids=str,
)
def test_figure_1_and_tables_at_any_scale(tmp_path, change):
    change = dict(change)
    arms = change.pop("arms", synthetic.ARMS)
    metrics = synthetic.write(synthetic.settings(**{**SMALL, **change}), tmp_path, images=6, arms=arms)
    _in_style(figure1.plot, metrics)
    files = {**tables.make(metrics), "figure1.md": figure1.caption(metrics)}
    assert all(text.endswith("\n") and "nan" not in text.lower() for text in files.values())
    seeds = len(metrics.seeds)
    assert (f"{seeds} pretraining seeds" if seeds > 1 else "no bands") in files["figure1.md"]


def test_checkpoint_colours_go_from_dark_to_light():
    """Told apart by lightness alone, so under any colour blindness, and all darker than the page."""
    for n in (1, 2, 9):
        light = [np.dot((0.2126, 0.7152, 0.0722), colour[:3]) for colour in style.checkpoint_colours(n)]
        assert (np.diff(light) > 0.03).all() and max(light) < 0.8


def test_a_broken_samples_file_is_one_line(small, tmp_path):
    path = tmp_path / "digits" / "images" / "samples" / "trajectories.safetensors"
    for content in (b"", path.read_bytes()[:100]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"trajectories.*dvc repro trajectories@digits") as error:
            figures.make(small, tmp_path)
        assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(UserError, match=r"not found.*trajectories@digits"):
        figures.make(small, tmp_path)


def test_sheets_keep_every_pixel():
    images = np.random.default_rng(9).uniform(size=(2, 3, 8, 8, 3))
    page = figure3.sheet(images)
    zoom = figure3.SIDE // 8
    assert page.shape == (2 * 64 + figure3.GAP, 3 * 64 + 2 * figure3.GAP, 3)
    assert page[64 + figure3.GAP :: zoom, :64:zoom][:8] == pytest.approx(images[1, 0])
    grey = figure3.pixels(np.zeros((4, 1, 8, 8)))
    assert grey.shape == (4, 8, 8, 3)
