"""Why stages failed, from their logs and from what Snakemake and DVC said, as a user should read it."""

import re
import sys
import tempfile

from mlegfn.cli import explain as machine_error
from mlegfn.errors import TRY_AGAIN
from mlegfn.pipeline.stage import log_path


def explain(scale_name, failed, log, said):
    """Say which stages failed and why; returns 2 if the user can mend it, 75 if running again does, else 1.

    said: the lines that Snakemake printed, with those of DVC and of the stages; ``log`` is where they are kept.
    """
    codes = []
    for name in failed:
        path, (code, tail) = log_path(scale_name, name), last_attempt(log_path(scale_name, name))
        if code in (None, 0):  # the stage did not start, could not write its log, or did well: then it is DVC
            path, tail = log, [line for line in said if line.startswith(("ERROR", "mlegfn: "))] or said
            code, tail = machine_failed(tail, code)
        codes.append(code)
        print(f"\n{name} failed. The end of {path}:\n", file=sys.stderr)
        print("\n".join(f"  {line}" for line in tail[-20:]), file=sys.stderr)
    if not failed:
        code, tail = machine_failed(said, 1)
        codes.append(code)
        print(f"\nSnakemake failed. The end of {log}:\n", file=sys.stderr)
        print("\n".join(f"  {line}" for line in tail[-20:]), file=sys.stderr)
    print("\nWhat was finished stays; the same command goes on from there.", file=sys.stderr)
    return codes[0] if set(codes) in ({2}, {TRY_AGAIN}) else 1


def machine_failed(lines, code):
    """(2, one line that says so) where the machine is to blame for what was printed; else (code, lines)."""
    unnamed = f"a file of this checkout, of DVC's cache or of {tempfile.gettempdir()}"
    for line in reversed(lines):
        if line.startswith("mlegfn: ") and code is None:
            return 2, [line]
        if mendable := machine_error(RuntimeError(line), unnamed=unnamed):
            return 2, [f"mlegfn: {mendable}"]
    return code, lines


def last_attempt(path):
    """(exit code, or None if it has none; the lines printed) of the last run in a stage's log."""
    if not path.exists():
        return None, []
    with open(path, errors="replace", newline="\n") as file:  # a progress bar's \r ends no line
        _, *lines = file.read().rpartition("\n=== 2")[2].rstrip("\n").split("\n")
    code = next((int(m[1]) for line in lines if (m := re.match(r"=== exit (\d+) ", line))), None)
    return code, [line.split("\r")[-1] for line in lines if not line.startswith("=== exit")]
