"""Why stages failed, from their logs and from what DVC and Snakemake said, as a user should read it."""

import re
import sys

from mlegfn.errors import TRY_AGAIN
from reproduction.messages import explain as machine_error
from reproduction.workflow.running import log_path

__all__ = ["explain", "last_attempt"]

SHOWN = 20  # lines of a failed stage's log


def explain(planned, done, log, since):
    """Say which stages failed and why; returns 2 if the user can mend it, 75 if running again does, else 1.

    planned, done: names of stages; log: the file with what Snakemake and DVC printed; since: when the run began,
    seconds since the epoch.
    """
    said = log.read_text(errors="replace").splitlines() if log.exists() else []
    codes = []
    for name in planned:
        if name in done:
            continue
        path = log_path(name)
        started = path.exists() and path.stat().st_mtime >= since - 1
        code, lines = last_attempt(path) if started else (0, [])
        if code in (
            None,
            0,
        ):  # killed; or it did not start, or did well: then DVC failed, or it waits for another one
            of_dvc = [line for line in said if line.startswith("ERROR: ") and f"'{name}'" in line]
            if code == 0 and not of_dvc:
                continue
            code, lines = (1, of_dvc) if code == 0 else (TRY_AGAIN, [*lines, *of_dvc])
            if any(word in "".join(of_dvc) for word in ("missing data 'source'", "[Errno 2]")) or _machine(
                of_dvc
            ):
                code, lines = 2, [_machine(of_dvc) or line.removeprefix("ERROR: ") for line in of_dvc[-1:]]
        codes.append(code)
        print(f"\n{name} failed. The end of {path if started else log}:\n", file=sys.stderr)
        print("\n".join(f"  {line}" for line in lines[-SHOWN:]), file=sys.stderr)
    if not codes:
        mendable = _machine(said)
        codes = [2 if mendable else 1]
        print(f"\nSnakemake failed. The end of {log}:\n", file=sys.stderr)
        print("\n".join(f"  {line}" for line in ([mendable] if mendable else said[-SHOWN:])), file=sys.stderr)
    print("\nWhat was finished stays; the same command goes on from there.", file=sys.stderr)
    return codes[0] if set(codes) in ({2}, {TRY_AGAIN}) else 1


def _machine(lines):
    """One line that says what the machine lacks (space, a right), if that is what was printed; else None."""
    for line in reversed(lines):
        if line.startswith("mlegfn: "):
            return line
        if mendable := machine_error(RuntimeError(line), unnamed="a file of this checkout or of DVC's cache"):
            return f"mlegfn: {mendable}"
    return None


def last_attempt(path):
    """(exit code, or None if it has none; the lines printed) of the last run in a stage's log."""
    if not path.exists():
        return None, []
    with open(path, errors="replace", newline="\n") as file:  # a progress bar's \r ends no line
        _, *lines = file.read().rpartition("\n=== 2")[2].rstrip("\n").split("\n")
    code = next((int(m[1]) for line in lines if (m := re.match(r"=== exit (-?\d+) ", line))), None)
    return code, [line.split("\r")[-1] for line in lines if not line.startswith("=== exit")]
