"""What stages left, read for the page."""

import contextlib
from pathlib import Path

from mlegfn.artifacts import read_json
from mlegfn.errors import UserError


@contextlib.contextmanager
def written_by(stage, path):
    """What ``stage`` wrote to ``path``, and does not look like it any more, is a UserError."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path}: not as the stage {stage} writes it ({type(error).__name__}); run `dvc repro --force {stage}`"
        ) from None


def picture(scale, name):
    """(kind, bytes) of a figure, the smaller of SVG and PNG; None where there is none."""
    found = [
        (kind, path.read_bytes())
        for kind in ("svg", "png")
        if (path := Path("results", scale, "figures", f"{name}.{kind}")).is_file()
    ]
    return min(found, key=lambda each: len(each[1]), default=None)


def terms(metrics):
    """What charts.terms takes, from the files that Metrics has checked."""
    folder, last = Path("results", metrics.name, "metrics", "nll"), metrics.steps[-1]

    def of(name, step):
        points = read_json(folder / f"{name}.json")["points"]
        return next(point["terms"] for point in points if point["finetune_step"] == step)

    found = {}
    for checkpoint in metrics.checkpoints:
        found[checkpoint, None, None] = of(f"baseline-{checkpoint}", 0)
        for arm in metrics.arms:
            for seed in metrics.seeds:
                found[checkpoint, arm, seed] = of(f"{checkpoint}-{arm}-{seed}", last)
    return found
