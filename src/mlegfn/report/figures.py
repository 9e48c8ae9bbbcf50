"""All figures of a scale: file names and their bytes."""

from pathlib import Path

from mlegfn.errors import UserError
from mlegfn.report import figure1, figure2, figure3, style


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


def arrays(path, keys, stage):
    """The arrays of a safetensors file; a missing or broken one is a UserError naming the stage that makes it."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise UserError(f"{path}: not found; the stage {stage} makes it: run `dvc repro {stage}`")
    try:
        found = load_file(path)
    except (SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a whole safetensors file ({reason}); delete it and run `dvc repro {stage}`"
        ) from None
    if absent := [key for key in keys if key not in found]:
        raise UserError(f"{path}: has no array {absent[0]!r}; delete it and run `dvc repro {stage}`")
    return found
