"""How long the pipeline takes: cold, with nothing to do, on one core and on two, warm and without a warm server.

Runs in temporary copies of the checkout, so nothing here is touched:

    python benchmarks/pipeline.py --scale smoke
    python benchmarks/pipeline.py --scale digits --one-core    # also the run on one core: twice as long

Writes benchmarks/results/pipeline-<scale>.json. Every ratio comes from one run of this script.
``--keep DIR`` leaves the copy that ran on all cores, with its results, in DIR.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import provenance

REPOSITORY = Path(__file__).resolve().parent.parent


def copy(destination):
    """What git tracks, without results: a fresh clone, with the settings as they are now."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    for name in names:
        if name and not name.startswith("results/") and name != "dvc.lock" and (REPOSITORY / name).exists():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, destination / name)
    subprocess.run(["git", "init", "-q"], cwd=destination, check=True)
    return destination


def environment(root):
    tools = Path(sys.executable).parent
    found = {k: v for k, v in os.environ.items() if k != "MLEGFN_WARM"}
    return found | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root / "src"),
        "OMP_NUM_THREADS": "1",
    }


def timed(root, *command):
    """Seconds that a command takes; it has to succeed."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=root, env=environment(root), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout[-3000:]}")
    return seconds


def reproduce(root, scale, cores):
    return timed(root, "mlegfn", "reproduce", "--scale", scale, "--cores", str(cores))


def stage_start(root, scale, repeats=5):
    """Median seconds from starting a stage that computes next to nothing to its end: cold; warm; and warm where the
    server has parsed no settings, because there are none in its folder. The same of DVC that finds it unchanged."""
    stage = ("mlegfn", "stage", "tables", "--scale", scale)
    dvc = ("mlegfn", "dvc", "repro", "--single-item", f"tables@{scale}")
    cold = statistics.median(timed(root, *stage) for _ in range(repeats))
    found = {"cold_s": cold}
    with tempfile.TemporaryDirectory() as empty:
        for name, folder in (("warm_s", root), ("warm_unparsed_s", empty)):
            with warm_server(root, folder) as socket:
                warm = ("env", f"MLEGFN_WARM={socket}")
                preload = timed(root, *warm, *stage)
                found |= {name: statistics.median(timed(root, *warm, *stage) for _ in range(repeats))}
                found |= {f"dvc_{name}": statistics.median(timed(root, *warm, *dvc) for _ in range(repeats))}
                found.setdefault("first_warm_with_imports_s", preload)
    return found


def status(root, repeats=3):
    """Median seconds of `dvc status` by DVC alone, and by `mlegfn dvc`, which reads dvc.lock and settings its own way;
    in turn, without a warm server."""
    commands = {"dvc": ("dvc", "status"), "mlegfn dvc": ("mlegfn", "dvc", "status")}
    times = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            times[name].append(timed(root, *command))
    return {name: statistics.median(each) for name, each in times.items()}


def yaml(repeats=15):
    """Median seconds of parsing each of our files by ruamel.yaml alone, and with libyaml's events; in turn."""
    from ruamel.yaml import YAML

    from mlegfn.libyaml import reader

    found = {}
    for name in ("params.yaml", "dvc.yaml", "claims.yaml", "claims-gallery.yaml"):
        text, times = (REPOSITORY / name).read_text(), {"alone": [], "libyaml": []}
        for _ in range(repeats):
            for kind, make in (("alone", lambda _: YAML(typ="safe", pure=True)), ("libyaml", reader)):
                start = time.perf_counter()
                make(text).load(text)
                times[kind].append(time.perf_counter() - start)
        found[name] = {kind: statistics.median(each) for kind, each in times.items()}
    return found


@contextlib.contextmanager
def warm_server(root, folder):
    """The socket of a warm server that was started in ``folder``."""
    with tempfile.TemporaryDirectory() as place:
        socket = Path(place, "warm")
        server = subprocess.Popen(["mlegfn", "warm", str(socket)], env=environment(root), cwd=folder)
        try:
            while not socket.exists():
                time.sleep(0.05)
            yield socket
        finally:
            server.terminate()
            server.wait()


def imports(root, modules=("torch", "torch, diffusers; diffusers.UNet2DModel"), repeats=3):
    """Median seconds of a process that imports what a training stage imports, which a warm one does not pay."""
    return {
        names: statistics.median(timed(root, sys.executable, "-c", f"import {names}") for _ in range(repeats))
        for names in modules
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--one-core", action="store_true", help="also time the whole run on one core")
    parser.add_argument("--keep", type=Path, help="a folder that does not exist yet, for the copy that ran")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="mlegfn-benchmark-") as folder:
        root = copy(options.keep.resolve() if options.keep else Path(folder, "many"))
        result = {
            "scale": options.scale,
            **provenance(),
            "cores_used": options.cores,
            "whole_run_s": reproduce(root, options.scale, options.cores),
        }
        result["nothing_to_do_s"] = statistics.median(
            reproduce(root, options.scale, options.cores) for _ in range(3)
        )
        result["stage_start"] = stage_start(root, options.scale)
        result["status_s"] = status(root)
        result["yaml_s"] = yaml()
        result["imports_s"] = imports(root)
        if options.one_core:
            result["whole_run_one_core_s"] = reproduce(copy(Path(folder, "one")), options.scale, 1)
            result["ratio_one_core_to_many"] = result["whole_run_one_core_s"] / result["whole_run_s"]

    target = REPOSITORY / "benchmarks" / "results" / f"pipeline-{options.scale}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print(json.dumps(result, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
