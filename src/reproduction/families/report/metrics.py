"""The metrics of one scale's families, as its settings name them."""

from pathlib import Path

from mlegfn.errors import UserError
from reproduction.drawing.inputs import contents

__all__ = ["producer", "read"]

KEYS = (
    "title",
    "order",
    "policies",
    "deterministic",
    "objective",
    "data",
    "about",
    "checks",
    "runs",
    "panels",
)


def read(name, settings, names, root="results"):
    """``{family: contents of its file}`` of a scale's families, in the order of Table 1.

    A missing or misfitting file is a UserError that says what makes it.

    :param name: the scale
    :param settings: :class:`reproduction.families.settings.Families`
    :param names: of the families
    :param root: the folder of all scales
    """
    families = {}
    for family in names:
        path, stage = Path(root, name, "families", "metrics", f"{family}.json"), producer(name, family)
        families[family] = contents(path, stage, *KEYS)
        if {run["seed"] for run in families[family]["runs"]} != set(settings.seeds):
            raise UserError(f"{path}: has other seeds than params.yaml; run `dvc repro {stage}`")
    return dict(sorted(families.items(), key=lambda item: item[1]["order"]))


def producer(name, family):
    """The name of the stage that makes a family's metrics and samples at the scale ``name``."""
    return f"family@{name}-{family}"
