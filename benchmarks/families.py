"""How long all model families of a scale take: checks and trainings, two at a time, each a process as in the
pipeline.

    python benchmarks/families.py [--scale digits] [--cores 2]

Runs in a copy of the checkout, so nothing of its results changes. Writes benchmarks/results/families-SCALE.json; the
bar is 10 minutes for `digits` on 2 cores (issue 4). Other programs on the machine slow it: see load_average.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from machine import finish, provenance

ROOT = Path(__file__).parents[1]


def copy(root):
    for file in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / file, root)
    for folder in ("src", "claims"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))


def stage(root, scale, family):
    """Seconds of one stage; a failure ends the benchmark."""
    command = [sys.executable, "-m", "reproduction", "stage", "families.train", scale, family]
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{family} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", default="digits")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    from reproduction.params import load

    about, started = provenance(), time.perf_counter()
    names = list(load(ROOT / "params.yaml").families[options.scale].settings)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.cores) as pool:
        root = Path(folder)
        copy(root)
        begin = time.perf_counter()
        seconds = dict(zip(names, pool.map(lambda name: stage(root, options.scale, name), names)))
        total = time.perf_counter() - begin
    bars = {"seconds for all families": (total, "<=", 600)} if options.scale == "digits" else {}
    return finish(
        f"families-{options.scale}", about, started, bars, workers=options.cores, wall=total, stages=seconds
    )


if __name__ == "__main__":
    sys.exit(main())
