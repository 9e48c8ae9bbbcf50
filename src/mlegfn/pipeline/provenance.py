"""How each artifact was made: results/<scale>/provenance/<stage>.json, written when a stage has succeeded.

git tracks the records, DVC does not know of them: a run's wall time would make everything after it stale. So
DVC may put other outputs into place (from its run cache, or by a pull) than those that the record is about.
Therefore whoever reads one compares it with dvc.lock, and every record is also kept in STORE, from where
``settle`` puts the right one back.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from mlegfn.artifacts import write_json
from mlegfn.errors import UserError
from mlegfn.pipeline import engine, surroundings
from mlegfn.pipeline.hashes import md5
from mlegfn.pipeline.recorded import Lock
from mlegfn.pipeline.snapshot import look_up
from mlegfn.yaml_file import read_yaml

STORE = Path(".dvc/tmp/mlegfn/provenance")  # ignored by git, of this checkout
RANKS = "MLEGFN_RANK_REPORTS"  # the folder in which a stage's ranks tell its launcher what they were on
IDENTITY = ("command", "parameters", "inputs", "outputs")  # what dvc.lock says, too
KEYS = (
    *("stage", "command", "commit", "dirty", "started", "wall_s", "peak_memory_mib", "parameters", "seeds"),
    *("inputs", "outputs", "device", "python", "packages", "requirements_lock"),
)


class Run:
    """One run of the stage ``name``: made when it begins, because what it computes is of that commit's code."""

    def __init__(self, name, scale_name):
        self.name, self.scale_name = name, scale_name
        self.started, self._clock = datetime.now(UTC), time.monotonic()
        self.commit, self.dirty = surroundings.git_state()
        self._ranks = None

    def expect_ranks(self):
        """The stage's ranks are processes of their own and will ``tell``: say where."""
        self._ranks = tempfile.TemporaryDirectory(prefix="mlegfn-ranks-")
        os.environ[RANKS] = self._ranks.name

    def record(self):
        """The record of a run that has just ended well; its outputs are hashed now."""
        stage = engine.read(self.scale_name).stages[self.name]
        values = read_yaml("params.yaml")
        parameters = {key: look_up(values, key) for key in stage.params}
        device, memory = surroundings.device(), surroundings.peak_memory_mib()
        for told in self._told():
            device = told["device"]
            memory = max(memory, told["peak_memory_mib"])
        return {
            "stage": self.name,
            "command": stage.cmd,
            "commit": self.commit,
            "dirty": self.dirty,
            "started": self.started.isoformat(timespec="seconds"),
            "wall_s": round(time.monotonic() - self._clock, 3),
            "peak_memory_mib": memory,
            "parameters": parameters,
            "seeds": seeds(stage.cmd, parameters),
            "inputs": {path: hash_of(path) for path in stage.deps},
            "outputs": {path: hash_of(path) for path in stage.outs},
            "device": device,
            "python": sys.version.split()[0],
            "packages": surroundings.packages(),
            "requirements_lock": surroundings.lock_hash(),
        }

    def write(self):
        """Write the record into the store and into its place; a failure is a UserError, and nothing is lost."""
        try:
            keep(self.name)  # the one in place may have come by git
            record = self.record()
            write_json(stored(record), record)
            write_json(place(self.name, self.scale_name), record)
        except OSError as error:
            raise UserError(
                f"{error.filename or place(self.name, self.scale_name)}: the provenance of {self.name} could not be "
                f"written ({error.strerror}); its results are whole, `mlegfn provenance` tells what dvc.lock knows"
            ) from None

    def _told(self):
        """What the ranks told, the first rank's first."""
        if self._ranks is None:
            return []
        found = [json.loads(path.read_text()) for path in sorted(Path(self._ranks.name).glob("*.json"))]
        os.environ.pop(RANKS, None)
        self._ranks.cleanup()
        return list(reversed(found))  # the last one wins in `record`: rank 0 names the device


def tell():
    """In a rank: leave what its launcher's record needs to know, if it asked."""
    if folder := os.environ.get(RANKS):
        told = {"device": surroundings.device(), "peak_memory_mib": surroundings.peak_memory_mib()}
        write_json(Path(folder, f"{int(os.environ['RANK']):04}.json"), told)


def hash_of(path):
    """A path's MD5 as in dvc.lock, None where there is nothing."""
    return md5(path) if Path(path).exists() else None


def seeds(command, parameters):
    """{where: value} of every seed among a stage's options and settings."""
    words = command.split()
    found = {"--seed": int(words[words.index("--seed") + 1])} if "--seed" in words else {}

    def visit(key, value):
        if key.rpartition(".")[2] in ("seed", "seeds", "finetune_seed"):
            found[key] = value
        elif isinstance(value, dict):
            for inner, content in value.items():
                visit(f"{key}.{inner}", content)

    for key, value in parameters.items():
        visit(key, value)
    return found


def place(name, scale_name):
    """Where the record of a stage lies."""
    return Path("results", scale_name, "provenance", f"{name}.json")


def stored(record):
    """Where the store keeps a record: by all that dvc.lock says of its stage, too."""
    text = json.dumps([record.get(key) for key in IDENTITY], sort_keys=True)
    return STORE / record["stage"] / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def read(path):
    """The record in a file, None where there is none or it is not whole."""
    try:
        record = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and set(KEYS) <= set(record) else None


def keep(name, scale_name=None):
    """Copy the record in place into the store, unless it is there already; returns it, None if there is none."""
    record = read(place(name, scale_name or engine.scale_of(name)))
    if record is not None and not stored(record).exists():
        write_json(stored(record), record)
    return record


def find(name, entry):
    """The record that belongs to a stage's entry in dvc.lock, from its place or the store; else None.

    One that agrees in everything comes first; then one whose outputs are the recorded ones: it says how these
    bytes were made, even if `dvc commit` has accepted other inputs for them since. Without an entry (a machine
    without DVC) it is the one in place.
    """
    here = read(place(name, engine.scale_of(name)))
    if entry is None:
        return here
    same = {**entry, "stage": name}
    others = [read(path) for path in sorted((STORE / name).glob("*.json"))]
    candidates = [record for record in (here, *others) if record is not None]
    for keys in (IDENTITY, ("outputs",)):
        for record in candidates:
            if all(equal(record[key], same[key]) for key in keys):
                return record
    return None


def equal(one, other):
    """Whether two values are the same as JSON: a record has been through it."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def settle(names):
    """Make the records in place those of the outputs that dvc.lock records; returns the stages it changed.

    One that belongs to other outputs, of which nothing else is known, goes to the store.
    """
    lock, changed = Lock(), []
    for name in names:
        scale_name = engine.scale_of(name)
        path, entry = place(name, scale_name), lock.entry(name)
        if entry is None or not (path.exists() or (STORE / name).is_dir()):
            continue
        here, right = keep(name), find(name, entry)
        if right is not None and right != here:
            write_json(path, right)
        elif right is None and here is not None:
            path.unlink()
        else:
            continue
        changed.append(name)
    return changed


def of_stage(name, lock=None):
    """The record of a stage, with ``"recorded": True``; where none belongs to the outputs in dvc.lock, what dvc.lock
    and git know, with ``"recorded": False`` and None for the rest (``commit`` is then the one that last changed the
    entry). A stage that has not run is a UserError. ``lock``: a ``recorded.Lock``, to ask for many stages."""
    lock = lock or Lock()
    entry = lock.entry(name)
    record = find(name, entry)
    if record is not None:
        return {**record, "recorded": True}
    if entry is None:
        raise UserError(
            f"{name}: has not run here; `make reproduce SCALE={engine.scale_of(name)}` runs it, `make restore` fetches it"
        )
    known = {**entry, "stage": name, "commit": lock.commit(name)}
    known["seeds"] = seeds(entry["command"] or "", entry["parameters"])
    return {key: known.get(key) for key in KEYS} | {"recorded": False}


def wall_times(names):
    """{stage: seconds} that those of the stages ``names`` with a record in place took."""
    found = {name: read(place(name, engine.scale_of(name))) for name in names}
    return {name: record["wall_s"] for name, record in found.items() if record is not None}


def output_of(path):
    """(stage, its output) that the artifact ``path`` is, or lies in. None is a UserError."""
    given, path = path, os.path.relpath(path)
    producers = engine.read().producers
    for parent in [Path(path), *Path(path).parents]:
        if str(parent) in producers:
            return producers[str(parent)], str(parent)
    if inside := sorted(out for out in producers if out.startswith(f"{path.rstrip('/')}/")):
        raise UserError(f"{given}: the outputs of several stages lie there; name one, as in {inside[0]}")
    raise UserError(f"{given}: no stage makes it; `mlegfn status --scale NAME` lists the stages")


def of_path(path):
    """The record, as of ``of_stage``, of the stage whose output ``path`` is or lies in; none is a UserError."""
    return of_stage(output_of(path)[0])
