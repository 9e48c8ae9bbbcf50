"""All figures of a scale: file names and their bytes."""

from pathlib import Path

from mlegfn.report import figure1, figure2, figure3, style
from mlegfn.report.inputs import arrays


def make(metrics, root="results"):
    """``{file name: bytes or text}``: figure{1,2,3}.{pdf,svg,png} and the captions, figure{1,2,3}.md.

    :param metrics: a :class:`mlegfn.report.metrics.Metrics`
    :param root: the folder of all scales; samples are read from ``root/<scale>/samples``
    """
    name, scale, folder = metrics.name, metrics.scale, Path(root) / metrics.name / "samples"
    planar = {
        problem: arrays(
            folder / f"planar-{problem}.safetensors", ("data", "mle_gfn"), f"planar@{name}-{problem}"
        )
        for problem in scale.planar.problems
    }
    images = arrays(
        folder / "trajectories.safetensors", ("trajectories", "times", "samples"), f"trajectories@{name}"
    )
    pictures = {
        "figure1": (style.draw(figure1.plot, metrics), figure1.caption(metrics)),
        "figure2": (style.draw(figure2.plot, planar), figure2.caption(name, planar)),
        "figure3": (
            style.draw(figure3.plot, images, metrics.about["levels"]),
            figure3.caption(name, scale, images),
        ),
    }
    files = {f"{each}.md": text for each, (_, text) in pictures.items()}
    for each, (formats, _) in pictures.items():
        files |= {f"{each}.{ending}": content for ending, content in formats.items()}
    return files
