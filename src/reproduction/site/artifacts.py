"""Files that stages left, read for the page; all of them lie under results/<scale>/<experiment>/."""

import contextlib
import csv
from pathlib import Path

from mlegfn.artifacts import read_json
from mlegfn.errors import UserError
from reproduction.params import Params

__all__ = [
    "EXPERIMENTS",
    "divergence_tasks",
    "folder",
    "former",
    "nll_point",
    "picture",
    "rows",
    "scales",
    "training_cost",
    "written",
]

EXPERIMENTS = Params.EXPERIMENTS


def folder(scale, experiment):
    """The folder of an experiment at a scale."""
    return Path("results", scale, experiment)


def former(scale, experiment, root="."):
    """Whether the results of an experiment at a scale are those of a former version, of which the page shows nothing.

    The arms of the image experiment were others, and none was searched.
    """
    tables = Path(root) / folder(scale, experiment) / "tables"
    return experiment == "images" and tables.is_dir() and not (tables / "search.csv").is_file()


def scales(params):
    """The names of all scales: those of ``params`` in its order, then those that only have results here."""
    measured = [
        path.parts[-2]
        for experiment in EXPERIMENTS
        for path in sorted(Path("results").glob(f"*/{experiment}"))
    ]
    return list(dict.fromkeys([*params.scales, *measured]))


@contextlib.contextmanager
def written(path):
    """A UserError where the file or folder ``path`` does not look as its stage writes it."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path}: not as its stage writes it ({type(error).__name__}); restore it from git, or delete it and run "
            "`make reproduce`"
        ) from None


def picture(scale, experiment, name):
    """(kind, bytes) of a figure, the smaller of SVG and PNG; None where there is none, or one of a former version."""
    if former(scale, experiment):
        return None
    pictures = [
        (kind, path.read_bytes())
        for kind in ("svg", "png")
        if (path := folder(scale, experiment) / "figures" / f"{name}.{kind}").is_file()
    ]
    return min(pictures, key=lambda kind_and_bytes: len(kind_and_bytes[1]), default=None)


def rows(scale, experiment, table):
    """[{column: text}] of results/<scale>/<experiment>/tables/<table>.csv; empty where there is no such file."""
    path = folder(scale, experiment) / "tables" / f"{table}.csv"
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def training_cost(scale, step, seed):
    """Network evaluations (forward + backward) of the first ``step`` training steps of the baseline ``seed``."""
    metrics = folder(scale, "images") / "metrics" / "pretrain" / f"{step}-{seed}.json"
    evaluations = read_json(metrics)["network_evaluations"]
    return evaluations["forward"] + evaluations["backward"]


def nll_point(scale, arm, step, seed, finetune_step):
    """What was measured of a model of an arm, or of ``baseline``: its ``bits_per_dim``, its ``terms`` [T + 1], …"""
    metrics = folder(scale, "images") / "metrics" / "nll" / arm / f"{step}-{seed}.json"
    return next(point for point in read_json(metrics)["points"] if point["finetune_step"] == finetune_step)


def divergence_tasks(scale):
    """{task: contents of its metrics file} in the order of the table of divergences."""
    files = sorted((folder(scale, "divergences") / "metrics" / "tasks").glob("*.json"))
    tasks = {path.stem: read_json(path) for path in files}
    titles = list(dict.fromkeys(row["task"] for row in rows(scale, "divergences", "divergences")))
    return {name: tasks[name] for name in sorted(tasks, key=lambda name: titles.index(tasks[name]["title"]))}
