"""Whether every setting reaches what depends on it: the stages of one experiment, run in a folder as DVC runs them."""

import functools
import json
import os
import shutil
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import pytest
from helpers.broken_settings import changed, value_at
from helpers.declared import declared, yaml_file
from helpers.image_stages import Counted, prepare
from helpers.parts import leaves
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction import hashes
from reproduction import stage as stage_module
from reproduction.params import load
from reproduction.settings.validation import hint_at, validate

__all__ = ["FormerRun", "Pipeline", "finished"]

SMOKE = "smoke"
RECORDS = {"logs", "parts", "provenance", "scratch"}  # beside the outputs


def another_value(hint, value):
    """Another value than ``value`` of a setting with the annotation ``hint``; not for None, nor for text that is free."""
    base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if isinstance(value, list):
        (inner,) = get_args(base)
        inner = get_args(inner)[0] if get_origin(inner) is Annotated else inner
        if get_origin(inner) is Literal:
            return [*value[:-1], next(name for name in get_args(inner) if name not in value)]
        return [*value[:-1], another_value(inner, value[-1])]
    if get_origin(base) is Literal:
        return next(name for name in get_args(base) if name != value)
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value / 2 or 0.5


def outputs(experiment):
    """{path: bytes} of what the stages wrote in the working directory, what they keep of parts included."""
    folders = Path("data", SMOKE), Path("results", SMOKE, experiment)
    paths = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in sorted(paths) if not RECORDS & set(path.parts)}


def without_echoes(written, echoes):
    """Of ``outputs``, what was computed: tensors, and metrics without the keys ``echoes``, which repeat settings."""

    def stripped(value):
        if isinstance(value, dict):
            return {key: stripped(inner) for key, inner in value.items() if key not in echoes}
        return [stripped(inner) for inner in value] if isinstance(value, list) else value

    tensors = {path: content for path, content in written.items() if path.endswith(".safetensors")}
    metrics = {path: json.loads(content) for path, content in written.items() if "/metrics/" in path}
    return tensors | stripped(metrics)


@dataclass
class Pipeline:
    """The stages of an experiment at the scale smoke, its reports apart, and what the test of its settings has to know.

    :ivar changes: {key: value} that make the settings of smoke still smaller, or let more of them matter
    :ivar lists: {name: the entries that are kept of what dvc.yaml loops over}, where that is less than in params.yaml
    :ivar skipped: items that are not run
    :ivar others: {key: another value}, where ``another_value`` gives none
    :ivar refused: {key: (value, pattern of the message)}, where no other value is possible
    :ivar same: {key: why another value changes nothing that is computed}
    :ivar rounding: {key: why another value may change the last digits, and may not}
    :ivar by_inputs: keys that stages read and do not name, because their inputs, or the machine, say the same
    :ivar echoes: keys of metrics that repeat a setting
    """

    experiment: str
    model: type
    changes: dict = field(default_factory=dict)
    lists: dict = field(default_factory=dict)
    skipped: set = field(default_factory=set)
    others: dict = field(default_factory=dict)
    refused: dict = field(default_factory=dict)
    same: dict = field(default_factory=dict)
    rounding: dict = field(default_factory=dict)
    by_inputs: set = field(default_factory=set)
    echoes: set = field(default_factory=set)

    def __post_init__(self):
        self.raw = yaml_file("params.yaml")[self.experiment][SMOKE]
        for key, value in self.changes.items():
            self.raw = changed(self.raw, key.split("."), value)
        of_file = yaml_file("params.yaml")
        kept = {name: {key: of_file[name][key] for key in keys} for name, keys in self.lists.items()}
        stages = declared(self.experiment, SMOKE, kept)
        self.stages = [stage for stage in stages if not stage.is_report and stage.item not in self.skipped]
        self.keys = [".".join(path) for path in leaves(self.raw)]
        known = {*self.others, *self.refused, *self.same, *self.rounding, *self.by_inputs}
        assert known <= set(self.keys), known - set(self.keys)
        params = load(REPOSITORY / "params.yaml")
        kept = {name: {key: getattr(params, name)[key] for key in keys} for name, keys in self.lists.items()}
        self.params = params.model_copy(update=kept)

    def other(self, key):
        """Another value of a setting."""
        if key in self.refused:
            return self.refused[key][0]
        if key in self.others:
            return self.others[key]
        path = key.split(".")
        return another_value(hint_at(self.model, path), value_at(self.raw, path))

    def block(self, key=None, value=None):
        """The validated settings, with another value of one of them."""
        raw = changed(self.raw, key.split("."), value) if key else self.raw
        return validate(self.model, raw, f"params.yaml: {self.experiment}.{SMOKE}")

    def run(self, block, recorded):
        """Run in the working directory what DVC would run; returns what DVC would then record.

        recorded: what ``run`` returned there before, {} before the first one.
        """
        now = {}
        for stage in self.stages:
            now[stage] = self.state(stage, block)
            if recorded.get(stage) != now[stage]:
                self.run_stage(stage, block)
        return now

    def state(self, stage, block):
        """The settings and inputs by which DVC tells whether a stage has to run."""
        settings = {self.experiment: {SMOKE: block.model_dump(mode="json")}}
        own = [key for key in stage.keys if key.startswith(f"{self.experiment}.")]
        return {key: value_at(settings, key.split(".")) for key in own}, {
            path: hashes.md5(path) for path in stage.inputs
        }

    def run_stage(self, stage, block):
        """Run one stage in the working directory: what does not persist is deleted before, as DVC does."""
        for path in set(stage.outputs) - set(stage.persistent):
            delete(path)
        params = self.params.model_copy(update={self.experiment: {SMOKE: block}})
        job = stage_module.Stage(stage.module, SMOKE, stage.item, params)
        import_module(f"reproduction.{stage.module}").run(job, *([stage.item] if stage.item else []))
        job.forget_others()

    def forget(self, stage):
        """Delete what a stage wrote, and its record of finished parts."""
        for path in (*stage.outputs, f"results/{SMOKE}/{self.experiment}/parts/{stage.name}.json"):
            delete(path)

    def depending(self, key):
        """The stages that name a setting, and those that read what they write."""
        dependents, written = [], []
        for stage in self.stages:
            reads = any(
                Path(a).is_relative_to(b) or Path(b).is_relative_to(a) for a in stage.inputs for b in written
            )
            if reads or stage.names(f"{self.experiment}.{SMOKE}.{key}"):
                dependents.append(stage)
                written += stage.outputs
        return dependents


class FormerRun:
    """A folder in which the stages of a ``Pipeline`` have run."""

    def __init__(self, pipeline, folder, prepare_inputs=None):
        """prepare_inputs: called in the folder before, makes what stages of other experiments would."""
        self.pipeline, self.folder, self.block = pipeline, folder, pipeline.block()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(prepare(folder))
            if prepare_inputs:
                prepare_inputs()
            self.recorded = pipeline.run(self.block, {})
            self.outputs = outputs(pipeline.experiment)

    def copy(self, folder):
        return shutil.copytree(self.folder, folder, symlinks=True)

    def check(self, key):
        """In a copy: after a change of one setting, what is kept gives what is computed from nothing, and that is new."""
        pipeline = self.pipeline
        if key in pipeline.refused:
            with pytest.raises(UserError, match=pipeline.refused[key][1]):
                pipeline.run(pipeline.block(key, pipeline.other(key)), self.recorded)
            return
        block = pipeline.block(key, pipeline.other(key))
        pipeline.run(block, self.recorded)
        kept, depending = outputs(pipeline.experiment), pipeline.depending(key)
        for stage in depending:
            pipeline.forget(stage)
        for stage in depending:
            pipeline.run_stage(stage, block)
        anew = outputs(pipeline.experiment)
        assert kept.keys() == anew.keys(), sorted(kept.keys() ^ anew.keys())
        assert kept == anew, [path for path in kept if kept[path] != anew[path]]
        before, after = (without_echoes(written, pipeline.echoes) for written in (self.outputs, kept))
        if key not in pipeline.rounding:
            assert (before == after) == (key in pipeline.same), pipeline.same.get(
                key, f"{key} changes nothing"
            )

    def check_others(self, name):
        """In a copy: settings that a stage does not name, all of them changed, leave its parts and its outputs as they were."""
        pipeline, block = self.pipeline, self.block
        stage = next(stage for stage in pipeline.stages if stage.name == name)
        for key in set(pipeline.keys) - pipeline.by_inputs:
            if not stage.names(f"{pipeline.experiment}.{SMOKE}.{key}"):
                block = unchecked(block, key.split("."), pipeline.other(key))
        assert block != self.block
        with pytest.MonkeyPatch.context() as patch:
            computed = Counted(patch).names
            pipeline.run_stage(stage, block)
            assert computed == [] and outputs(pipeline.experiment) == self.outputs
        pipeline.forget(stage)
        pipeline.run_stage(stage, block)
        assert outputs(pipeline.experiment) == self.outputs


def finished(pipeline, prepare_inputs=None):
    """A fixture: the ``FormerRun`` of a pipeline. While it lives, stages are started without reading all of src again."""

    @pytest.fixture(scope="module")
    def former(tmp_path_factory):
        declaration, code_hash = (
            functools.cache(stage_module.declaration),
            functools.cache(stage_module.code_hash),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage_module, "declaration", declaration)
            patch.setattr(stage_module, "code_hash", lambda paths: code_hash(tuple(paths)))
            patch.setattr(os, "fsync", lambda file: None)
            yield FormerRun(pipeline, tmp_path_factory.mktemp(pipeline.experiment), prepare_inputs)

    return former


def delete(path):
    path = Path(path)
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def unchecked(block, path, value):
    """A copy of a block of settings with another value at ``path``, whatever the rules between settings say."""
    if isinstance(block, dict):
        return {**block, path[0]: unchecked(block[path[0]], path[1:], value)}
    inner = unchecked(getattr(block, path[0]), path[1:], value) if path[1:] else value
    return block.model_copy(update={path[0]: inner})
