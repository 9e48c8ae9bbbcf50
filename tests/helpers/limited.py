"""Opening what may be made to harm, in one process with a limit on its memory."""

import json
import os
import subprocess
import sys

from helpers.repository import REPOSITORY

# Opens each of the paths that it reads in this process; prints a JSON line for each.
RUNNER = """
import contextlib, io, json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
from mlegfn.errors import UserError

def archive(path):
    from mlegfn.data import archive
    print(tuple(archive.load(path).train_images.shape))

def checkpoint(path):
    from mlegfn.checkpoints import read
    read(path).model(17)

kind = {"archive": archive, "checkpoint": checkpoint}[sys.argv[2]]
for path in json.load(sys.stdin):
    out, error, started = io.StringIO(), "", time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            kind(path)
        code = 0
    except UserError as refused:
        code, error = 2, str(refused)
    except BaseException as bug:
        code, error = 1, f"{type(bug).__name__}: {bug}"
    print(json.dumps({"code": code, "out": out.getvalue(), "error": error,
                      "seconds": time.process_time() - started}), flush=True)
"""
MEMORY = 6 * 2**30  # bytes of addresses; torch alone has 2 to 4 GiB of them
SECONDS = 20  # of the processor, for one case


def outcomes(kind, cases, cwd):
    """Open each of ``cases`` {name: path} as an ``archive`` or a ``checkpoint``; {name: what it came to}."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(MEMORY), kind],
        input=json.dumps([str(path) for path in cases.values()]),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(cases), f"{list(cases)[len(lines)]} ended it: {done.stderr[-2000:]}"
    return dict(zip(cases, lines))


def refused(outcome, *parts):
    """Whether it is one line that says what it should."""
    line = outcome["error"]
    return (
        outcome["code"] == 2
        and outcome["seconds"] < SECONDS
        and line.count("\n") == 0
        and len(line) < 700
        and all(part in line for part in parts)
    )
