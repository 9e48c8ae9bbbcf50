"""How long the pipeline takes: a scale from nothing, with nothing to do, `dvc status`, one stage's start, imports.

Runs in temporary clones of HEAD, so nothing here is touched:

    python benchmarks/pipeline.py --scale smoke
    python benchmarks/pipeline.py --scale digits --beside ../other-checkout   # the same of another commit, installed there

Writes benchmarks/results/pipeline-<scale>.json. Every ratio comes from one run of this script.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import provenance

REPOSITORY = Path(__file__).resolve().parent.parent
IMPORTS = ("torch", "torch, diffusers; diffusers.UNet2DModel")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument(
        "--beside", type=Path, help="a checkout of another commit with its own .venv, timed likewise"
    )
    parser.add_argument("--keep", type=Path, help="a folder that does not exist yet, for the clone that ran")
    options = parser.parse_args()
    result = {"scale": options.scale, **provenance(), "cores_used": options.cores}
    with tempfile.TemporaryDirectory(prefix="mlegfn-benchmark-") as folder:
        result |= measure(
            REPOSITORY, options.keep.resolve() if options.keep else Path(folder, "this"), options
        )
        if options.beside:
            result["beside"] = measure(options.beside.resolve(), Path(folder, "beside"), options)
    if options.beside:
        result["ratio_whole_run"] = result["whole_run_s"] / result["beside"]["whole_run_s"]
    result["imports_s"] = {
        names: median(
            lambda names=names: timed(REPOSITORY, REPOSITORY, sys.executable, "-c", f"import {names}")
        )
        for names in IMPORTS
    }
    target = REPOSITORY / "benchmarks" / "results" / f"pipeline-{options.scale}.json"
    target.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print(json.dumps(result, indent=1, sort_keys=True))


def measure(source, root, options):
    """Seconds of the scale in a clone of ``source``, whose .venv runs it."""
    subprocess.run(["git", "clone", "--quiet", str(source), str(root)], check=True)
    reproduce = ("mlegfn", "reproduce", "--scale", options.scale, "--cores", str(options.cores))
    return {
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=root, text=True).strip(),
        "whole_run_s": timed(source, root, *reproduce),
        "nothing_to_do_s": median(lambda: timed(source, root, *reproduce)),
        "dvc_status_s": median(lambda: timed(source, root, "dvc", "status")),
        "dvc_lock_bytes": (root / "dvc.lock").stat().st_size,
    }


def median(action, repeats=3):
    """The median of what ``action`` returns."""
    return statistics.median(action() for _ in range(repeats))


def timed(source, root, *command):
    """Seconds that a command of ``source``'s .venv takes in the folder ``root``; it has to succeed."""
    environment = {
        **os.environ,
        "PATH": f"{source / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root / "src"),
        "OMP_NUM_THREADS": "1",
    }
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout[-3000:]}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
