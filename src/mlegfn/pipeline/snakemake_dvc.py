"""What makes Snakemake run what DVC finds stale, that and nothing else.

Snakemake's own view rests on modification times and on private metadata, which say nothing after
``git clone``, ``dvc pull`` or ``dvc repro``. So every input in the Snakefile is marked ``ancient``, unless a
stage that is about to run makes it, and a stale stage gets one input that is newer than anything: ``ASKED``.
"""

import os
import threading
import time

from mlegfn.artifacts import write_text
from mlegfn.pipeline import ranks, slots

ASKED = ".snakemake/asked-dvc"


def adapt(scale):
    """Take six habits from this process's Snakemake that harm where DVC keeps the artifacts."""
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
    # At SIGTERM it lets running jobs go on to their end, which may be hours away: they are to save and stop.
    _pass_on_sigterm()
    # Its lock outlives a process that is killed. The kernel's does not, and says whether another run is alive.
    claimed = PersistenceBase.locked
    PersistenceBase.locked = property(lambda self: not _alone(scale) and claimed.fget(self))


def snakemake_lock(scale):
    """The file that a Snakemake which runs ``scale`` in this checkout holds locked."""
    return f".snakemake/{scale}.lock"


def _alone(scale):
    """Whether no other Snakemake runs this scale in this checkout; holds the lock until the process ends."""
    from filelock import FileLock, Timeout

    lock = _LOCKS.setdefault(scale, FileLock(snakemake_lock(scale)))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


_LOCKS = {}


def _pass_on_sigterm():
    from snakemake.scheduling.job_scheduler import JobScheduler
    from snakemake.shell import shell

    finish_gracefully = JobScheduler.exit_gracefully

    def stop(scheduler):
        finish_gracefully(scheduler)  # starts no more; in a thread, as it waits for the scheduler's lock
        told = set()
        while True:  # until the process ends: a job may be just starting
            for process in list(shell._processes.values()):
                if process.pid not in told:
                    told.add(process.pid)
                    process.terminate()
            time.sleep(0.1)

    def exit_gracefully(scheduler, *_):
        threading.Thread(target=stop, args=(scheduler,), daemon=True).start()

    JobScheduler.exit_gracefully = exit_gracefully


def resources(stage):
    """(threads, resources) of a stage for Snakemake, from its ``meta`` and the number of its ranks.

    A rank takes as many GPUs as dvc.yaml says for the stage, or as many threads where it computes on the CPU.
    """
    count = ranks.of(stage.name.partition("@")[0])
    wanted = dict(stage.meta.get("resources", {}))
    threads = stage.meta.get("threads", 1)
    if os.environ.get("MLEGFN_ALLOW_CPU") == "1":
        wanted.pop("gpu", None)
    if wanted.get("gpu"):
        wanted["gpu"] *= count
    else:
        wanted.pop("gpu", None)
        threads *= count
    return threads, wanted


def limit_gpus(workflow):
    """Where Snakemake starts stages on this machine: not more at once than there are GPUs for, unless told."""
    if "gpu" in workflow.global_resources or not workflow.local_exec or slots.shared():
        return
    if count := len(slots.devices()):
        workflow.register_resource("gpu", count)


async def _nothing(*_, **__):
    pass


def ask():
    """Write the input that is newer than every artifact, with a content that it never had before."""
    write_text(ASKED, f"{time.time_ns()}\n")
