"""Stage ``gallery.report``: what the stations measured → their figures and tables, the spiral's animation, the verdict.

In:  metrics, stations, claims/gallery.yaml
Out: figures/<station>.{pdf,svg,png,md}, figures/spiral.webp, tables/<station>.{csv,md}, report/verdict.{json,md}

A file of the folder ``stations`` here draws the figure of the station of its name: it has ``plot``, ``caption`` and, if
it likes, ``table``.
"""

import json

from mlegfn.artifacts import write_bytes
from reproduction.gallery.report import drawing, evidence, measured, spiral_animation
from reproduction.verdicts import claims, verdict

__all__ = ["run"]


def run(stage):
    for folder in ("metrics", "stations"):
        stage.input(stage.path(folder))
    stations = stage.settings.names
    files = {}
    for station in stations:
        files |= drawing.files(stage.scale, station)
    if "spiral" in stations:
        files["figures/spiral.webp"] = spiral_animation.make(stage.scale)
    claimed = claims.load("claims/gallery.yaml", evidence.KINDS)
    report = verdict.decide(measured.read(stage.scale, stations), claimed, evidence.TESTS)
    files["report/verdict.json"] = json.dumps(report, indent=1, sort_keys=True, allow_nan=False) + "\n"
    files["report/verdict.md"] = verdict.markdown(report)
    for path, content in files.items():
        write_bytes(stage.path(path), content if isinstance(content, bytes) else content.encode())
