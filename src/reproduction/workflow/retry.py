"""Does another attempt at a stage make sense? What the Snakefile asks before it makes one.

Snakemake counts attempts but knows no exit codes. A stage that was interrupted has saved its state, and one that was
killed left the last state that it saved: both go on from there. A mistake of the user's or of the program's would only be
repeated.
"""

from pathlib import Path

from mlegfn.errors import TRY_AGAIN, UserError
from reproduction.workflow.failures import last_attempt
from reproduction.workflow.running import log_path

__all__ = ["check"]


def check(name, plan):
    """0 if the stage's last run ended so that the next can go on from it; else a UserError says how it ended.

    plan: the file of the run's plan; a log that is older is of an earlier run.
    """
    path = log_path(name)
    of_this_run = path.exists() and path.stat().st_mtime >= Path(plan).stat().st_mtime
    code = last_attempt(path)[0] if of_this_run else None
    if code not in (None, TRY_AGAIN):
        raise UserError(
            f"{path}: {name} ended with exit code {code}; mend that first, trying again would end likewise"
        )
    print(f"{name}: {'was interrupted' if code else 'was killed'}; trying again")
    return 0
