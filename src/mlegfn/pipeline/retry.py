"""Does another attempt at a stage make sense? What the Snakefile asks before it makes one.

Snakemake counts attempts but knows no exit codes. A stage that was interrupted has saved its state, and one that
died without a word (kill -9, a lost node) left the last state that it saved: both go on from there. A mistake
of the user's or of the program's would only be repeated.
"""

from pathlib import Path

from mlegfn.errors import TRY_AGAIN, UserError
from mlegfn.pipeline import engine
from mlegfn.pipeline.failures import last_attempt
from mlegfn.pipeline.snakemake_dvc import ASKED
from mlegfn.pipeline.stage import log_path


def check(name):
    """0 if the stage's last run ended so that the next can go on from it; else a UserError says how it ended."""
    path = log_path(engine.scale_of(name), name)
    code = last_attempt(path)[0] if ran_since(ASKED, path) else None
    if code not in (None, TRY_AGAIN):
        raise UserError(
            f"{path}: {name} ended with exit code {code}; trying again would end likewise, so mend that first"
        )
    print(f"{name}: {'was interrupted' if code else 'died without a word'}; trying again")
    return 0


def ran_since(asked, log):
    """Whether the stage's log is of this run of Snakemake, which began by writing the file ``asked``."""
    try:
        return Path(log).stat().st_mtime >= Path(asked).stat().st_mtime
    except FileNotFoundError:
        return True
