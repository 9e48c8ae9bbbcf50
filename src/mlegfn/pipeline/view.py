"""DVC's view of a scale, handed by `mlegfn reproduce` to the Snakemake that it starts: asking DVC takes seconds."""

import contextlib
import json
import os
import tempfile
from dataclasses import asdict

from mlegfn import graph
from mlegfn.pipeline import engine

GIVEN = "MLEGFN_VIEW"


@contextlib.contextmanager
def handed_over(scale, pipeline, environment):
    """``environment``, in which :func:`ask` of ``scale`` gives ``pipeline`` to the first process that asks."""
    with tempfile.TemporaryDirectory(prefix="mlegfn-") as folder:  # mode 0700
        path = os.path.join(folder, "view.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump([scale, [asdict(stage) for stage in pipeline.stages.values()]], file)
        yield {**environment, GIVEN: path}


def ask(scale):
    """The Pipeline of a scale for Snakemake: what was handed over, else what DVC says now.

    UserError where params.yaml lacks the scale or graph.json does not follow from it, or DVC cannot say.
    """
    # Once: whatever asks later, from within a stage for instance, finds another state.
    with contextlib.suppress(OSError), open(path := os.environ.pop(GIVEN, ""), encoding="utf-8") as file:
        os.unlink(path)
        of, stages = json.load(file)
        if of == scale:
            return engine.Pipeline({stage["name"]: engine.Stage(**stage) for stage in stages})
    graph.checked(scale)
    return engine.ask_dvc(scale)
