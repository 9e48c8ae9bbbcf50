"""The stages of dvc.yaml with every ``${…}`` filled in, which of them are stale, and how they follow each other.

DVC itself resolves them for the Snakefile, and says what is stale by content. ``Repo.index`` and its
neighbours are no documented interface; requirements.lock pins DVC, and tests/test_engines.py compares with
``dvc status``. For a machine without DVC, ``read`` fills in dvc.yaml by itself.
"""

import contextlib
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mlegfn.artifacts import read_json
from mlegfn.errors import UserError
from mlegfn.graph import GRAPH, names


@dataclass
class Stage:
    """One stage; paths are relative to the repository's root."""

    name: str
    cmd: str
    deps: list[str]
    outs: list[str]
    meta: dict
    params: list[str]
    changes: dict[str, str] = field(default_factory=dict)  # what differs from dvc.lock → how

    @property
    def directories(self):
        return set(self.meta.get("directories", ()))


def load_graph():
    """graph.json's items: ``{stage: {key: item}}``; a broken file is a UserError."""
    found = read_json(GRAPH)
    graph = found.get("graph") if isinstance(found, dict) else None
    try:
        if graph and all("scale" in item for items in graph.values() for item in items.values()):
            return graph
    except (AttributeError, TypeError):
        pass
    raise UserError(f"{GRAPH}: holds no stages; `mlegfn graph` derives it from params.yaml anew")


def scale_of(name):
    """The scale of a stage; a name that graph.json does not have is a UserError."""
    stage, _, key = name.partition("@")
    item = load_graph().get(stage, {}).get(key)
    if item is None:
        raise UserError(f"{name}: no such stage; `mlegfn status --scale NAME` lists a scale's")
    return item["scale"]


def ask_dvc(scale=None, freshness=True, wait=True):
    """The Pipeline of a scale (None: of all) as DVC sees it, with what changed if ``freshness`` is wanted.

    Waits for DVC's lock, as `dvc --wait-for-lock`. ``wait=False`` only looks, while stages may come and go: what it
    finds of those that run is as of that moment, and it may fail as one of DVC's errors or OSError.
    """
    from dvc.exceptions import DvcException

    try:
        return Pipeline(_by_dvc(scale, freshness, wait))
    except DvcException as error:  # dvc.yaml or dvc.lock are not what DVC writes and reads
        if not wait:
            raise
        raise unreadable(error) from None
    except RecursionError:
        raise UserError(
            "DVC: dvc.yaml or dvc.lock is nested too deeply; `git restore` puts it back"
        ) from None


def unreadable(error):
    """The UserError for what keeps DVC from reading dvc.yaml, dvc.lock or what they name."""
    said = " ".join(str(error).replace("'./", "'").split())[:300]
    return UserError(f"DVC: {said}; `git diff` shows what changed, `git restore` puts it back")


def _by_dvc(scale, freshness, wait):
    """``{name: Stage}`` of :func:`ask_dvc`."""
    from dvc.dvcfile import load_file
    from dvc.repo import Repo

    from mlegfn.pipeline import lockfile

    lockfile.install()
    stages = {}
    with Repo(".", _wait_for_lock=True) as repo, repo.lock if wait else contextlib.nullcontext():
        loader = load_file(repo, os.path.join(repo.root_dir, "dvc.yaml")).stages
        content = Content(repo)
        for name in names(load_graph(), scale):
            try:
                stages[name] = _stage(name, loader[name], content, freshness)
            except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
                # DVC checks the form of an entry, not its values: an MD5 may be a number.
                raise UserError(
                    f"dvc.lock: the entry {name} is broken ({type(error).__name__} {error}); restore the file from git, "
                    "or delete the entry: then its stage runs again"
                ) from None
    return stages


def _stage(name, found, content, freshness):
    """The Stage of one of DVC's."""
    from dvc.dependency import ParamsDependency

    params = [d for d in found.deps if isinstance(d, ParamsDependency)]
    return Stage(
        name=name,
        cmd=found.cmd,
        deps=[content.path(d) for d in found.deps if d not in params],
        outs=[content.path(o) for o in found.outs],
        meta=found.meta or {},
        params=list(dict.fromkeys(key for d in params for key in d.params)),
        changes=content.changes(found) if freshness else {},
    )


def read(scale=None):
    """The Pipeline of a scale (None: of all) from dvc.yaml and graph.json alone, without DVC."""
    from mlegfn.yaml_file import read_yaml

    if (files := (_content(GRAPH), _content("dvc.yaml"), scale)) in _READ:
        return Pipeline(dict(_READ[files]))
    graph, definitions, stages = load_graph(), read_yaml("dvc.yaml"), {}
    for name in names(graph, scale):
        kind, key = name.split("@")
        try:
            body = fill_in(definitions["stages"][kind]["do"], {"key": key, "item": graph[kind][key]})
            outs = declared_outs(body)
            stages[name] = Stage(
                name=name,
                cmd=body["cmd"],
                deps=list(body["deps"]),
                outs=[out if isinstance(out, str) else next(iter(out)) for out in outs],
                meta=dict(body["meta"]),
                params=list(dict.fromkeys(body["params"])),
            )
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise UserError(f"dvc.yaml: stages.{kind}: broken ({reason}); restore it from git") from None
    _READ.clear()  # one is enough
    _READ[files] = stages
    return Pipeline(dict(stages))


_READ = {}  # (graph.json, dvc.yaml, scale) → {name: Stage}: a stage asks five times


def _content(path):
    """A file's bytes, None for one that cannot be read, which is its reader's to say."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def declared_outs(body):
    """The outputs in a stage of dvc.yaml, each a path or ``{path: how}``."""
    return [out for each in ("outs", "metrics", "plots") for out in body.get(each, ())]


def fill_in(value, context):
    """``value`` with ``${a.b}`` replaced by ``context["a"]["b"]``; a text that is nothing else takes its type."""
    if isinstance(value, dict):
        return {fill_in(k, context): fill_in(v, context) for k, v in value.items()}
    if isinstance(value, list):
        return [fill_in(v, context) for v in value]
    if not isinstance(value, str):
        return value

    def look_up(match):
        found = context
        for part in match[1].split("."):
            found = found[part]
        return found

    expression = re.compile(r"\$\{([\w.]+)\}")
    if match := expression.fullmatch(value):
        return look_up(match)
    return expression.sub(lambda match: str(look_up(match)), value)


class Pipeline:
    """Stages in the order of dvc.yaml, and how they follow each other."""

    def __init__(self, stages):
        self.stages = stages

    @cached_property
    def producers(self):
        """Output path → name of the stage that makes it."""
        return {out: stage.name for stage in self.stages.values() for out in stage.outs}

    def expand(self, dep):
        """A dependency as the files and folders that Snakemake can follow.

        An output stays; what lies inside an output becomes that output; a folder that outputs lie in
        becomes those outputs; a folder of source code becomes its modules.
        """
        for parent in [Path(dep), *Path(dep).parents]:
            if str(parent) in self.producers:
                return [str(parent)]
        if inside := [out for out in self.producers if out.startswith(f"{dep}/")]:
            return inside
        if dep.startswith("src/") and os.path.isdir(dep):
            return sorted(str(module) for module in Path(dep).rglob("*.py"))
        return [dep]

    @cached_property
    def inputs(self):
        """Stage → its dependencies, expanded."""
        return {
            name: list(dict.fromkeys(path for dep in stage.deps for path in self.expand(dep)))
            for name, stage in self.stages.items()
        }

    @cached_property
    def upstream(self):
        """Stage → the stages whose outputs it reads."""
        return {
            name: {self.producers[path] for path in inputs if path in self.producers}
            for name, inputs in self.inputs.items()
        }

    def order(self):
        """Stage names, every stage after those that it reads."""
        done, begun = {}, set()

        def visit(name):
            if name not in done:
                if name in begun:
                    raise UserError(f"dvc.yaml: {name} depends on what it makes itself; restore it from git")
                begun.add(name)
                for before in sorted(self.upstream[name], key=list(self.stages).index):
                    visit(before)
                done[name] = True

        for name in self.stages:
            visit(name)
        return list(done)

    def followers(self):
        """Stage → how many stages wait for it, directly or not: its priority."""
        found = {name: set() for name in self.stages}
        for name in reversed(self.order()):
            for before in self.upstream[name]:
                found[before] |= found[name] | {name}
        return {name: len(after) for name, after in found.items()}

    @property
    def stale(self):
        """Names of the stages that differ from their record in dvc.lock."""
        return {name for name, stage in self.stages.items() if stage.changes}

    def scheduled(self):
        """The stale stages and all that follow from them: what may have to run."""
        found = set()
        for name in self.order():
            if self.stages[name].changes or self.upstream[name] & found:
                found.add(name)
        return found


class Content:
    """The workspace by content, each path hashed once: ``dvc status``, but not once for every stage."""

    def __init__(self, repo):
        from dvc.utils.serialize import load_path

        self.repo, self._load, self._hashes, self._files = repo, load_path, {}, {}

    def path(self, entry):
        return os.path.relpath(entry.fs_path, self.repo.root_dir)

    def hash(self, entry):
        """A path's hash as DVC computes it, None where there is nothing."""
        key = entry.fs_path
        if key not in self._hashes:
            self._hashes[key] = entry.get_hash() if entry.exists else None
        return self._hashes[key]

    def parameters(self, entry):
        """The value of each setting that a stage reads; a setting that is not there is left out."""
        key = entry.fs_path
        if key not in self._files:
            self._files[key] = self._load(key, self.repo.fs)
        found = {}
        for name in entry.params:
            value = self._files[key]
            try:
                for part in name.split("."):
                    value = value[part]
            except (KeyError, TypeError):
                continue
            found[name] = value
        return found

    def difference(self, entry):
        """How a path differs from its record, None if it does not."""
        found = self.hash(entry)
        if found is None:
            return "missing"
        if not entry.hash_info:
            return "new"
        return None if found == entry.hash_info else "modified"

    def changes(self, stage):
        """{what: how} of everything by which ``stage`` differs from its record in dvc.lock."""
        from dvc.dependency import ParamsDependency

        changes = {}
        if stage.cmd_changed:
            changes["command"] = "modified"
        for dep in stage.deps:
            if isinstance(dep, ParamsDependency):
                now, before = self.parameters(dep), dep.hash_info.value or {}
                for name in dep.params:
                    if name not in before:
                        changes[name] = "new"
                    elif name not in now or now[name] != before[name]:
                        changes[name] = "modified"
            elif how := self.difference(dep):
                changes[self.path(dep)] = how
        for out in stage.outs:
            if how := self.difference(out):
                changes[self.path(out)] = how
            elif out.use_cache and out.changed_cache():
                changes[self.path(out)] = "not in cache"
        return changes
