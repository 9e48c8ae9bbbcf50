"""What makes Snakemake run what DVC finds stale, that and nothing else.

Snakemake's own view rests on modification times and on private metadata, which say nothing after
``git clone``, ``dvc pull`` or ``dvc repro``. So every input in the Snakefile is marked ``ancient``, unless a
stage that is about to run makes it, and a stale stage gets one input that is newer than anything: ``ASKED``.
"""

import time

from mlegfn.artifacts import write_text

ASKED = ".snakemake/asked-dvc"


def adapt():
    """Take four habits from this process's Snakemake that harm where DVC keeps the artifacts."""
    from snakemake.dag import DAG
    from snakemake.jobs import Job
    from snakemake.persistence import PersistenceBase
    from snakemake.workflow import Workflow

    # Before a job it deletes the outputs: DVC would make them again even where it finds nothing changed.
    Job.remove_existing_output = _nothing
    # After a failure it deletes them too: a stage writes them whole or not at all, and DVC records no failure.
    Job.cleanup = _nothing
    # It refuses to go on after having been killed: likewise.
    DAG.check_incomplete = _nothing
    # It compares with what it ran last: DVC may have run something since.
    Workflow.rerun_triggers = frozenset()
    PersistenceBase.has_metadata = lambda *_: True
    PersistenceBase.has_outdated_metadata = lambda *_: False


async def _nothing(*_, **__):
    pass


def ask():
    """Write the input that is newer than every artifact, with a content that it never had before."""
    write_text(ASKED, f"{time.time_ns()}\n")
