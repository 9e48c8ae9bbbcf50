"""What a run that was killed while it wrote an artifact has left beside it: git would list it for ever."""

import contextlib
import shutil

from mlegfn.artifacts import left_behind
from mlegfn.pipeline.snakemake_dvc import snakemake_lock


def sweep(scale_name, pipeline):
    """Delete the temporary files of the pipeline's artifacts, of their provenance and of dvc.lock.

    Not while another Snakemake runs this scale; dvc.lock's only while DVC lets nobody else write it.
    """
    from filelock import FileLock, Timeout

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
