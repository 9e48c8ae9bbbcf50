"""Figures in the house style: readable in any colour vision, and equal bytes for equal input."""

import os
import subprocess
import sys

import numpy as np

from reproduction.drawing import style

DRAW = """
import sys
from pathlib import Path
from reproduction.drawing import style

def plot(values):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 2), layout="constrained")
    axes = figure.add_subplot(title="title", xlabel="ε_θ")
    axes.plot(values)
    axes.imshow([values], extent=(0, 1, 0, 1))
    return figure

for kind, content in style.draw(plot, [1.0, 3.0, 2.0]).items():
    Path(sys.argv[1], f"figure.{kind}").write_bytes(content)
"""


def test_equal_input_gives_equal_bytes(tmp_path):
    """Two processes with different hash seeds and dates, and one with a matplotlibrc of the user's own."""
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.facecolor: red\nsvg.hashsalt: other\n")
    surroundings = [
        {"PYTHONHASHSEED": "1"},
        {
            "PYTHONHASHSEED": "2",
            "SOURCE_DATE_EPOCH": "5",
            "TZ": "Asia/Tokyo",
            "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
        },
    ]
    path = os.pathsep.join(sys.path)
    for k, more in enumerate(surroundings):
        folder = tmp_path / str(k)
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": path, **more}
        subprocess.run([sys.executable, "-c", DRAW, folder], env=environment, check=True)
    for kind in style.FORMATS:
        content = (tmp_path / "0" / f"figure.{kind}").read_bytes()
        assert content and content == (tmp_path / "1" / f"figure.{kind}").read_bytes(), kind
        for mark in (b"CreationDate", b"<dc:date>", b"Matplotlib v", b"Matplotlib version"):
            assert mark not in content, (kind, mark)


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib
    from matplotlib.figure import Figure

    before = dict(matplotlib.rcParams)
    drawn = style.draw(Figure, figsize=(1, 1))
    assert list(drawn) == list(style.FORMATS) and dict(matplotlib.rcParams) == before


def test_checkpoint_colours_go_from_dark_to_light():
    """Told apart by lightness alone, so under any colour blindness, and all darker than the page."""
    for n in (1, 2, 9):
        light = [np.dot((0.2126, 0.7152, 0.0722), colour[:3]) for colour in style.checkpoint_colours(n)]
        assert (np.diff(light) > 0.03).all() and max(light) < 0.8


def test_short_steps():
    assert [style.short(steps) for steps in (1500, 20000, 20500)] == ["1500", "20k", "20500"]
