"""How each artifact was made: results/<scale>/<experiment>/provenance/<stage>.json, written when a stage has succeeded.

git tracks the records, DVC does not know of them: a run's wall time would make everything after it stale. So another
version of the outputs may be put into place (by `dvc checkout` or a pull) than the one that a record is about; whoever
reads one compares its outputs with those in dvc.lock.
"""

import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from mlegfn.artifacts import write_json
from mlegfn.errors import UserError
from reproduction import hashes
from reproduction import params as settings
from reproduction.stage import recorded_outputs
from reproduction.workflow import surroundings

__all__ = ["Recording", "leave_rank_report", "of_stage", "read", "show", "wall_times"]

RANK_REPORTS = "MLEGFN_RANK_REPORTS"  # the folder in which a stage's ranks say what they were on


class Recording:
    """One run of a stage: made when it begins, because what it computes is of that commit's code."""

    def __init__(self, stage):
        self.stage = stage
        self.started, self._clock = datetime.now(UTC), time.monotonic()
        self.commit, self.dirty = surroundings.git_state()
        self._ranks = None

    def expect_ranks(self):
        """The stage's ranks are processes of their own: say where they leave their reports."""
        self._ranks = tempfile.TemporaryDirectory(prefix="mlegfn-ranks-")
        os.environ[RANK_REPORTS] = self._ranks.name

    def write(self):
        """Write the record of a run that has just ended well; its outputs are hashed now."""
        stage, values = self.stage, settings.read()
        parameters = {key: look_up(values, key) for key in stage.parameters}
        device, memory = surroundings.device(), surroundings.peak_memory_mib()
        for report in self._rank_reports():
            device, memory = report["device"], max(memory, report["peak_memory_mib"])
        write_json(
            place(stage.name, stage.path()),
            {
                "stage": stage.name,
                "command": " ".join(
                    ["mlegfn", "stage", stage.module, stage.scale, *filter(None, [stage.item])]
                ),
                "commit": self.commit,
                "dirty": self.dirty,
                "started": self.started.isoformat(timespec="seconds"),
                "wall_s": round(time.monotonic() - self._clock, 3),
                "peak_memory_mib": memory,
                "parameters": parameters,
                "seeds": seeds(parameters),
                "inputs": stage.inputs,
                "outputs": {path: hashes.md5(path) for path in stage.outputs if Path(path).exists()},
                "device": device,
                "python": sys.version.split()[0],
                "packages": surroundings.packages(),
                "requirements_lock": surroundings.lock_hash(),
            },
        )

    def _rank_reports(self):
        """What the ranks left, the first rank's last."""
        if self._ranks is None:
            return []
        reports = [json.loads(path.read_text()) for path in sorted(Path(self._ranks.name).glob("*.json"))]
        os.environ.pop(RANK_REPORTS, None)
        self._ranks.cleanup()
        return list(reversed(reports))


def leave_rank_report():
    """In a rank: leave what its launcher's record needs to know, if it asked."""
    if folder := os.environ.get(RANK_REPORTS):
        report = {"device": surroundings.device(), "peak_memory_mib": surroundings.peak_memory_mib()}
        write_json(Path(folder, f"{int(os.environ['RANK']):04}.json"), report)


def look_up(values, key):
    """The value under a dotted key of the settings."""
    for part in key.split("."):
        values = values[part]
    return values


def seeds(parameters):
    """{key: value} of every seed among a stage's settings."""
    found = {}

    def visit(key, value):
        if key.rpartition(".")[2] in ("seed", "seeds", "pretrain_seed"):
            found[key] = value
        elif isinstance(value, dict):
            for inner, content in value.items():
                visit(f"{key}.{inner}", content)

    for key, value in parameters.items():
        visit(key, value)
    return found


def place(name, folder):
    """Where the record of a stage lies; folder: results/<scale>/<experiment>."""
    return Path(folder, "provenance", f"{name}.json")


def read(path):
    """The record in a file, None where there is none or it is not whole."""
    try:
        record = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and {"stage", "outputs", "wall_s"} <= set(record) else None


def of_stage(name):
    """The record of a stage whatever its experiment, None where there is none."""
    scale = name.partition("@")[2].partition("-")[0]
    return next((read(path) for path in Path("results", scale).glob(f"*/provenance/{name}.json")), None)


def wall_times(names):
    """{stage: seconds} that those of the stages ``names`` with a record took."""
    records = {name: of_stage(name) for name in names}
    return {name: record["wall_s"] for name, record in records.items() if record is not None}


def show(artifact, as_json=False):
    """Print how a path or a stage was made; returns the exit code 0."""
    recorded = recorded_outputs()
    name = artifact if "@" in artifact and not Path(artifact).exists() else _producer(artifact, recorded)
    record = of_stage(name)
    if record is None:
        raise UserError(
            f"{name}: no record of its run here; `make reproduce` writes one, `dvc.lock` names its outputs"
        )
    if as_json:
        print(json.dumps(record, indent=1, sort_keys=True))
        return 0
    print("\n".join(_lines(record, recorded)))
    return 0


def _producer(artifact, recorded):
    """The stage that made the artifact, by dvc.lock."""
    path = Path(os.path.relpath(artifact))
    for output, (name, _) in recorded.items():
        if path.is_relative_to(output):
            return name
    raise UserError(f"{artifact}: no stage in dvc.lock makes it; `mlegfn status` lists the stages")


def _lines(record, recorded):
    device, commit = record["device"], record["commit"]
    where = f"{device['kind']}: {device['name']}, {device['cores']} core(s), {device['machine']}"
    if commit is None:
        commit = "unknown: git could not name it when this was made"
    elif record["dirty"]:
        commit += ", with changes that were not committed"
    rows = [
        ("stage", record["stage"]),
        ("command", record["command"]),
        ("commit", commit),
        ("started", record["started"]),
        ("wall time", f"{record['wall_s']:.1f} s"),
        ("peak memory", f"{record['peak_memory_mib']:.0f} MiB"),
        ("device", where),
    ]
    for title in ("seeds", "parameters", "inputs"):
        rows += [(title, f"{key}  {json.dumps(value)}") for key, value in record[title].items()]
    for path, md5 in record["outputs"].items():
        now = recorded.get(path, (None, None))[1]
        same = "as in dvc.lock" if now == md5 else f"dvc.lock records another version: {now}"
        rows.append(("outputs", f"{path}  {md5}  {same}"))
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record["packages"].items()))
    rows.append(("packages", f"Python {record['python']}, {versions}"))
    return [f"{title:12}{text}" for title, text in rows]
