"""What a run that was killed while it wrote has left: halves of artifacts, which git would list for ever, and of DVC's files."""

import contextlib
import json
import shutil
from pathlib import Path

from mlegfn.artifacts import left_behind
from mlegfn.pipeline.snakemake_dvc import snakemake_lock


def sweep(scale_name, pipeline):
    """Delete the temporary files of the pipeline's artifacts, of their provenance and of dvc.lock, and a broken rwlock.

    Not while another Snakemake runs this scale; dvc.lock's only while DVC lets nobody else write it.
    """
    from filelock import FileLock, Timeout

    sweep_rwlock()
    outs = [out for stage in pipeline.stages.values() for out in stage.outs]
    outs += [f"results/{scale_name}/provenance/{name}.json" for name in pipeline.stages]
    halves = [half for out in outs for half in left_behind(out)]
    if halves:
        with contextlib.suppress(Timeout), FileLock(snakemake_lock(scale_name), timeout=0):
            for half in halves:
                shutil.rmtree(half) if half.is_dir() else half.unlink(missing_ok=True)
    if left_behind("dvc.lock"):
        from dvc.repo import Repo

        with Repo(".", _wait_for_lock=True) as repo, repo.lock:
            for half in left_behind("dvc.lock"):
                half.unlink(missing_ok=True)


def sweep_rwlock(folder=".dvc/tmp"):
    """Delete DVC's file of who reads and writes which paths if it is no JSON.

    DVC writes it in place, so that kill -9 at that moment leaves it empty; no stage ran any more then. The processes that
    it named are gone with the kill, or write it whole again; whoever is just writing holds the lock that is taken here.
    """
    path = Path(folder, "rwlock")
    if _is_json(path):
        return
    from dvc.lock import LockError, make_lock

    guard = make_lock(str(path) + ".lock", tmp_dir=str(folder))
    with contextlib.suppress(LockError), guard:
        if not _is_json(path):
            path.unlink(missing_ok=True)


def _is_json(path):
    """Whether a file is JSON, or is not there."""
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True
