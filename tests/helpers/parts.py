"""What stages that keep finished parts are tested with: a ``keep`` in memory, and stages in a folder without DVC."""

import copy
import json
from importlib import import_module

from helpers.image_stages import prepare
from helpers.repository import REPOSITORY

from reproduction.params import read
from reproduction.settings.validation import validate
from reproduction.stage import Stage

__all__ = ["Kept", "leaves", "prepare", "run_stage", "settings_of", "with_value"]


class Kept:
    """As ``Stage.keep``, in memory.

    :ivar computed: the names of the parts that had to be computed, in order
    """

    def __init__(self):
        self.computed, self._parts = [], {}

    def __call__(self, name, settings, compute):
        fingerprint = json.dumps(settings, sort_keys=True)
        if self._parts.get(name, [None])[0] != fingerprint:
            value, tensors = compute()
            self.computed.append(name)
            self._parts[name] = fingerprint, json.dumps(value), {k: v.clone() for k, v in tensors.items()}
        _, value, tensors = self._parts[name]
        return json.loads(value), {key: tensor.clone() for key, tensor in tensors.items()}

    def after(self, function, *arguments):
        """(what ``function(*arguments, keep)`` returns, the names that it has to compute), these parts left as they are."""
        keep = type(self)()
        keep._parts = dict(self._parts)
        return function(*arguments, keep), keep.computed


def settings_of(model, experiment, scale="smoke"):
    """The block of params.yaml of an experiment and a scale, as ``model``."""
    raw = read(REPOSITORY / "params.yaml")[experiment][scale]
    return validate(model, raw, f"params.yaml: {experiment}.{scale}")


def leaves(raw, path=()):
    """The paths of all settings of a block that are no blocks themselves."""
    for key, value in raw.items():
        yield from leaves(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]


def with_value(settings, path, value):
    """``settings`` with another value at ``path``, a tuple of keys."""
    raw = copy.deepcopy(settings.model_dump())
    block = raw
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    return validate(type(settings), raw, "params.yaml")


class _Params:
    """Stands in for reproduction.params.Params: one block of settings and its items, for any scale."""

    def __init__(self, settings, items):
        self.settings, self.listed = settings, items

    def block(self, experiment, scale):
        return self.settings

    def items(self, experiment, scale):
        return list(self.listed)

    def lists(self, experiment, scale):
        return {"runs": list(self.listed)}

    def runs(self, experiment, scale):
        return {}


def run_stage(module, settings, item=None, items=(), scale="smoke"):
    """Run one stage in the working directory (``prepare``), as ``mlegfn stage`` does; returns the ``Stage``."""
    stage = Stage(module, scale, item, _Params(settings, items))
    import_module(f"reproduction.{module}").run(stage, *([item] if item else []))
    stage.forget_others()
    return stage
