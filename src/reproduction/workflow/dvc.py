"""DVC's command line: which stages there are, how they depend on each other, and which are stale."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mlegfn.errors import UserError
from reproduction.settings.yaml_file import read_yaml
from reproduction.stage import recorded_outputs

__all__ = ["Plan", "environment", "make_plan", "repair", "run_dvc"]

RWLOCK, LOCK, COPY = Path(".dvc/tmp/rwlock"), Path("dvc.lock"), Path(".dvc/tmp/mlegfn/dvc.lock")
# What would send a run elsewhere, or change what DVC prints, which is read here.
IGNORED = (
    "SNAKEMAKE_PROFILE",
    "SNAKEMAKE_OUTPUT_CACHE",
    "DVC_SHOW_TRACEBACK",
    "DVC_IGNORE_ISATTY",
    "DVC_TEST",
)
TEMPORARY = re.compile(r"\.[\w-]{22}\.tmp")  # as DVC names its temporary files


def environment():
    """This process's environment with the tools of its Python first in PATH, and one thread a process: results must not
    depend on the number of cores, and which stages run beside each other is Snakemake's choice."""
    tools = str(Path(sys.executable).parent)
    return {
        **{name: value for name, value in os.environ.items() if name not in IGNORED},
        "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "OMP_NUM_THREADS": "1",
    }


def run_dvc(*arguments):
    """What ``dvc <arguments>`` prints to stdout; its failure is a UserError with its own words."""
    done = subprocess.run(
        ["dvc", *arguments], capture_output=True, text=True, env=environment(), stdin=subprocess.DEVNULL
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        said = " ".join(line.removeprefix("ERROR: ") for line in lines) or done.stderr.strip()[-500:]
        if "not a git repository" in said:
            raise UserError(
                "this is no git checkout, which DVC needs: clone the repository, or `git init`, `git add -A`, `git commit`"
            )
        command = next(word for word in arguments if not word.startswith("-"))
        raise UserError(f"dvc {command}: {said}")
    return done.stdout


@dataclass
class Plan:
    """The stages of a scale, and those among them that have to run.

    :ivar stages: the names of the scale's stages and of what they depend on, in an order in which they can run
    :ivar needs: {stage: the stages that it depends on}
    :ivar changes: {stage: what differs from dvc.lock, in DVC's words made short}; only stale stages
    :ivar missing: {stage that has not run: the paths that it needs and that are not there}
    :ivar stale: the stages to run: those that changed and those that follow them, in order
    """

    stages: list
    needs: dict
    changes: dict
    missing: dict = field(default_factory=dict)
    stale: list = field(init=False)

    def __post_init__(self):
        self.stale, stale = [], set()
        for name in self.stages:
            if name in self.changes or stale & set(self.needs[name]):
                self.stale.append(name)
                stale.add(name)

    def followers(self, name):
        """How many stages wait, directly or not, for ``name``."""
        found = {name}
        for other in self.stages:
            if found & set(self.needs[other]):
                found.add(other)
        return len(found) - 1

    def why(self, name):
        """Why a stage of ``stale`` runs, in one line."""
        if name in self.changes:
            first, more = self.changes[name][:2], len(self.changes[name]) - 2
            return "; ".join(first) + (f"; {more} more" if more > 0 else "")
        return "follows " + ", ".join(need for need in self.needs[name] if need in self.stale)


def make_plan(scale):
    """The ``Plan`` of a scale, from ``dvc dag`` and ``dvc status``."""
    with ThreadPoolExecutor() as threads:  # two processes of DVC at once
        dag, status = (
            threads.submit(run_dvc, "dag", "--dot"),
            threads.submit(run_dvc, "--wait-for-lock", "status", "--json"),
        )
        edges, names = _graph(dag.result())
        status = json.loads(status.result() or "{}")
    needs = {name: [] for name in names}
    for source, target in edges:
        needs[target].append(source)
    stages = _ordered([name for name in names if scale_of(name) == scale], needs)
    if not stages:
        raise UserError(
            f"dvc.yaml: no stage of the scale {scale!r}; the lists at the top of params.yaml name it"
        )
    ran = {stage for stage, _ in recorded_outputs().values()}
    changes = {
        name: _changes(status[name]) if name in ran else ["has not run yet"]
        for name in stages
        if name in status
    }
    missing = {
        name: [line.removesuffix(" missing") for line in _changes(status[name]) if line.endswith(" missing")]
        for name in changes
        if name not in ran
    }
    return Plan(stages, {name: sorted(needs[name], key=stages.index) for name in stages}, changes, missing)


def scale_of(name):
    """``digits`` of ``finetune@digits-tbc``."""
    return name.partition("@")[2].partition("-")[0]


def _graph(dot):
    """(edges, names) of what ``dvc dag --dot`` prints."""
    edges = re.findall(r'^\s*"(.+?)" -> "(.+?)";$', dot, re.M)
    alone = re.findall(r'^\s*"([^"]+)";$', dot, re.M)
    return edges, sorted({*alone, *(name for edge in edges for name in edge)})


def _ordered(names, needs):
    """``names`` and what they need, each after what it needs."""
    done = {}

    def visit(name):
        if name not in done:
            for need in sorted(needs[name]):
                visit(need)
            done[name] = True

    for name in names:
        visit(name)
    return list(done)


def _changes(entries):
    """What ``dvc status --json`` says of one stage, as a list of short lines."""
    lines = []
    for entry in entries:
        if isinstance(entry, str):
            lines.append({"changed command": "dvc.yaml: command changed"}.get(entry, entry))
            continue
        for kind, items in entry.items():
            for path, how in items.items():
                if isinstance(how, dict):  # settings: {key: how}
                    lines += [f"{path} {key} {_word(each)}" for key, each in how.items()]
                else:
                    lines.append(f"{path} {_word(how)}" + (" (output)" if kind == "changed outs" else ""))
    return lines


def _word(how):
    return {"modified": "changed", "new": "is new", "deleted": "missing"}.get(how, how)


def repair():
    """Mend what kill -9 at the wrong moment leaves of DVC's own files; call it only while no stage runs here.

    DVC writes dvc.lock and .dvc/tmp/rwlock in place, so that a kill can leave them cut short. The second is rebuilt when
    it is not there; of the first there is a copy (``keep_copy``). Beside an output that it was linking it leaves a
    temporary file, which .dvcignore keeps out of what it hashes.
    """
    for folder in ("results", "data"):
        for path in Path(folder).rglob(".*.tmp"):
            if TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        try:
            json.loads(RWLOCK.read_bytes())
        except ValueError:
            RWLOCK.unlink()
    if LOCK.exists() and not _whole(LOCK):
        if not _whole(COPY):
            raise UserError("dvc.lock: not as DVC writes it; restore it from git")
        shutil.copyfile(COPY, LOCK)
        print("dvc.lock: cut short by a kill; the copy from before that stage is in its place")


def keep_copy():
    """Keep a copy of dvc.lock as it is now, if it is whole."""
    with contextlib.suppress(OSError):
        if (
            LOCK.exists()
            and (not COPY.exists() or COPY.stat().st_mtime_ns < LOCK.stat().st_mtime_ns)
            and _whole(LOCK)
        ):
            COPY.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(LOCK, f"{COPY}.new")
            os.replace(f"{COPY}.new", COPY)


def _whole(path):
    """Whether a file holds what DVC writes into dvc.lock."""
    try:
        return (
            path.exists()
            and bool(path.read_bytes().strip())
            and recorded_outputs(path, attempts=1) is not None
        )
    except UserError:
        return False


def definitions():
    """{stage without its scale and item: its definition} of dvc.yaml."""
    return {name: value.get("do", value) for name, value in read_yaml("dvc.yaml")["stages"].items()}
