"""The stages of the image experiment in a folder of their own, without DVC: settings in, artifacts out."""

import copy
from importlib import import_module
from pathlib import Path

from helpers.repository import REPOSITORY

from reproduction.images.settings import Images
from reproduction.params import read
from reproduction.settings.validation import validate
from reproduction.stage import Part, Stage

ARMS = ("simple", "simple_tbc", "reweighted")


def raw_settings(scale="smoke", **changes):
    """params.yaml's block ``images.<scale>`` as nested dicts; ``changes``: {"finetune__simple_tbc__weight": [value]}."""
    block = copy.deepcopy(read(REPOSITORY / "params.yaml")["images"][scale])
    for name, value in changes.items():
        *path, last = name.split("__")
        inner = block
        for key in path:
            inner = inner[key]
        inner[last] = value
    return block


def image_settings(scale="smoke", **changes):
    """The same as ``Images``."""
    return validate(Images, raw_settings(scale, **changes), f"params.yaml: images.{scale}")


class OneBlock:
    """Stands in for reproduction.params.Params: one block of settings for any scale, and the entries of its items."""

    def __init__(self, settings, arms=ARMS, entries=()):
        self.settings, self.arms, self.entries = settings, arms, dict(entries)

    def block(self, experiment, scale):
        return self.settings

    def items(self, experiment, scale):
        return list(self.arms)

    def lists(self, experiment, scale):
        return {"runs": list(self.arms)}

    def runs(self, experiment, scale):
        return self.entries


def prepare(folder):
    """Make a folder in which stages can run: links to what they read of the repository."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("src", "claims", "dvc.yaml"):
        if not (folder / name).exists():
            (folder / name).symlink_to(REPOSITORY / name)
    return folder


def run_stage(module, settings, item=None, scale="smoke", arms=ARMS, forget=True, entries=()):
    """Run one stage in the working directory, as ``mlegfn stage`` does; returns the ``Stage``.

    forget: delete parts that are no longer asked for; of several ranks, one does. entries: {item: its entry in the lists
    of params.yaml}.
    """
    stage = Stage(module, scale, item, OneBlock(settings, arms, entries))
    import_module(f"reproduction.{module}").run(stage, *([item] if item else []))
    if forget:
        stage.forget_others()
    return stage


def run_all(settings, scale="smoke", arms=ARMS, until="images.report"):
    """Run every stage of the experiment in order, up to the module ``until``."""
    for module, items in (
        ("images.fetch", [None]),
        ("images.pretrain", [None]),
        ("images.finetune", arms),
        ("images.baseline_nll", [None]),
        ("images.nll", arms),
        ("images.trajectories", [None]),
        ("images.quality", [None]),
        ("images.report", [None]),
    ):
        for item in items:
            run_stage(module, settings, item, scale, arms)
        if module == until:
            return


class Counted:
    """Records ``<stage>: <part>`` of every part that is finished from here on."""

    def __init__(self, monkeypatch):
        self.names, finish = [], Part.finish

        def recording(part):
            self.names.append(f"{part.stage.name}: {part.name}")
            finish(part)

        monkeypatch.setattr(Part, "finish", recording)
