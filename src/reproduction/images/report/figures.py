"""Figures 1 and 3 of a scale: file names and their bytes."""

from pathlib import Path

from reproduction.drawing import style
from reproduction.drawing.inputs import arrays
from reproduction.images.report import figure1, figure3


def make(metrics, root="results"):
    """``{file name: bytes or text}``: figure{1,3}.{pdf,svg,png} and the captions, figure{1,3}.md.

    :param metrics: a :class:`reproduction.images.report.metrics.Metrics`
    :param root: the folder of all scales; samples are read from ``root/<scale>/images/samples``
    """
    images = arrays(
        Path(root, metrics.name, "images", "samples", "trajectories.safetensors"),
        ("trajectories", "times", "samples"),
        f"trajectories@{metrics.name}",
    )
    pictures = {
        "figure1": (style.draw(figure1.plot, metrics), figure1.caption(metrics)),
        "figure3": (
            style.draw(figure3.plot, images, metrics.about["levels"]),
            figure3.caption(metrics.name, metrics.settings, images),
        ),
    }
    files = {f"{name}.md": text for name, (_, text) in pictures.items()}
    for name, (formats, _) in pictures.items():
        files |= {f"{name}.{ending}": content for ending, content in formats.items()}
    return files
