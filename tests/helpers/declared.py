"""The stages of a scale as dvc.yaml declares them, with its loops written out."""

import functools
import itertools
import re
from dataclasses import dataclass

from helpers.repository import REPOSITORY

from reproduction.params import read
from reproduction.settings.yaml_file import read_yaml
from reproduction.stage import parameter_keys

__all__ = ["Declared", "declared", "yaml_file"]


@functools.cache
def yaml_file(name):
    return read(REPOSITORY / name) if name == "params.yaml" else read_yaml(REPOSITORY / name)


@dataclass(frozen=True)
class Declared:
    """A stage of one scale: its name, module and item, its keys of settings, the paths that it reads and writes."""

    name: str
    module: str
    item: str | None
    keys: tuple
    inputs: tuple
    outputs: tuple
    persistent: tuple

    @property
    def is_report(self):
        return self.module.endswith(".report")

    def names(self, key):
        """Whether one of its keys of settings is ``key`` or a block around it."""
        return any(f"{key}.".startswith(f"{own}.") for own in self.keys)


def declared(experiment, scale, lists=None):
    """The ``Declared`` of an experiment at a scale, in the order of dvc.yaml.

    lists: what dvc.yaml loops over, by name; where it is not given, as in params.yaml.
    """
    lists = yaml_file("params.yaml") | (lists or {})
    for name, definition in yaml_file("dvc.yaml")["stages"].items():
        for entry in entries_of(definition, lists):
            own = definition.get("do", definition)
            _, _, module, of_scale, *item = filled(own["cmd"], entry).split()
            if module.partition(".")[0] != experiment or of_scale != scale:
                continue
            outs = [out if isinstance(out, dict) else {out: {}} for out in own["outs"]]
            outs = {filled(path, entry): about for out in outs for path, about in out.items()}
            yield Declared(
                f"{name}@" + "-".join([scale, *item]),
                module,
                item[0] if item else None,
                tuple(filled(key, entry) for key in parameter_keys(own)),
                tuple(filled(path, entry) for path in own["deps"] if path.startswith(("data/", "results/"))),
                tuple(outs),
                tuple(path for path, about in outs.items() if about.get("persist")),
            )


def entries_of(definition, lists):
    """What dvc.yaml makes a stage of: scales, or {name: value}."""
    if "matrix" in definition:
        named = {key: lists[text[2:-1]] for key, text in definition["matrix"].items()}
        return [dict(zip(named, values)) for values in itertools.product(*named.values())]
    listed = lists[definition["foreach"][2:-1]]
    return list(listed.values()) if isinstance(listed, dict) else listed


def filled(template, entry):
    return re.sub(r"\$\{item(?:\.(\w+))?\}", lambda match: entry[match[1]] if match[1] else entry, template)
