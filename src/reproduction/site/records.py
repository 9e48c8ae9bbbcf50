"""How the stages were run that made what the page shows: from dvc.lock and from the records of their runs."""

import json
from pathlib import Path

from reproduction.stage import recorded_outputs

__all__ = ["Records", "device"]

FIELDS = [
    "command",
    "commit",
    "dirty",
    "started",
    "wall_s",
    "peak_memory_mib",
    "parameters",
    "seeds",
    "inputs",
    "outputs",
    "device",
    "python",
    "packages",
    "requirements_lock",
]


class Records:
    """Which stage made an artifact, and how that stage was run.

    dvc.lock says which stage an artifact is of. The record of its run, provenance/<stage>.json of its experiment,
    counts only while it names exactly the outputs that dvc.lock names.

    :ivar shown: {stage: record} of every stage that was asked for, as the page lists them
    """

    def __init__(self):
        self.producers, self.outputs, self.shown = {}, {}, {}
        for path, (stage, md5) in recorded_outputs().items():
            self.producers[path] = stage
            self.outputs.setdefault(stage, {})[path] = md5

    def stage_of(self, path):
        """The name of the stage whose output ``path`` is, or lies in; None where dvc.lock names none.

        From then on the page lists the stage.
        """
        path = Path(path)
        stages = (self.producers.get(place.as_posix()) for place in (path, *path.parents))
        stage = next((stage for stage in stages if stage), None)
        if stage and stage not in self.shown:
            self.shown[stage] = self.record(stage)
        return stage

    def record(self, stage):
        """The record of a stage's run with ``recorded`` True; where there is none, what dvc.lock has, with False."""
        outputs = self.outputs[stage]
        run = _run_record(stage, outputs)
        if run is None:
            return {**dict.fromkeys(FIELDS), "stage": stage, "outputs": outputs, "recorded": False}
        return {**run, "stage": stage, "recorded": True, "device_text": device(run)}

    def measured(self, scale, experiment):
        """What an experiment's stages at a scale were recorded to have taken, or None.

        ``{"stages", "recorded", "seconds", "peak_memory_mib", "devices": [text]}``
        """
        inside = Path("results", scale, experiment)
        stages = [
            stage
            for stage, outputs in self.outputs.items()
            if any(Path(path).is_relative_to(inside) for path in outputs)
        ]
        runs = [run for stage in stages if (run := _run_record(stage, self.outputs[stage]))]
        if not runs:
            return None
        return {
            "stages": len(stages),
            "recorded": len(runs),
            "seconds": sum(run["wall_s"] or 0 for run in runs),
            "peak_memory_mib": max(
                (run["peak_memory_mib"] for run in runs if run["peak_memory_mib"]), default=None
            ),
            "devices": sorted({device(run) for run in runs}),
        }

    def has_scale(self, scale):
        """Whether dvc.lock names any output of a scale."""
        return any(Path(path).is_relative_to(Path("results", scale)) for path in self.producers)


def _run_record(stage, outputs):
    """The record of a stage's run; None where none is there that has all fields and these outputs {path: MD5}."""
    folders = {Path(path).parts[:3] for path in outputs if path.startswith("results/")}
    for folder in sorted(folders):
        try:
            run = json.loads(Path(*folder, "provenance", f"{stage}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(run, dict) and all(field in run for field in FIELDS) and run["outputs"] == outputs:
            return run
    return None


def device(record):
    """``cpu: AMD EPYC 7B13, 2 cores``, or that nobody recorded it."""
    about = record["device"]
    if not about:
        return "not recorded"
    cores = f", {about['cores']} cores" if about.get("cores") else ""
    name = f": {about['name']}" if about.get("name") else ""
    return f"{about['kind']}{name}{cores}"
