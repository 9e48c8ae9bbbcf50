"""Where a benchmark's numbers come from: machine, versions, commit; and how they are compared and written."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "results"


def cpu():
    """The processor's name, and which generation it is: virtual machines name no more of it than the brand."""
    shown = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    known = dict(map(str.strip, line.split(":", 1)) for line in shown if ":" in line)
    if "model name" not in known:
        return platform.processor()
    return f"{known['model name']} (family {known.get('cpu family')}, model {known.get('model')})"


def git(*arguments):
    """What git prints, stripped; None where there is no git, or no repository (a copy on a rented machine)."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def commit():
    """The commit of this code: from git, or, in a copy without it, from MLEGFN_COMMIT."""
    return git("rev-parse", "HEAD") or os.environ.get("MLEGFN_COMMIT") or None


def provenance():
    """A JSON-able dict: machine, load, versions, commit, and whether tracked files differ from it."""
    import torch

    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "dirty": None
        if (changed := git("status", "--porcelain", "--untracked-files=no")) is None
        else bool(changed),
    }


def interleaved(actions, rounds, synchronize=lambda: None):
    """Time ``actions`` {name: function} by turns, after one untimed turn: {name: {"wall", "cpu"}} of lists of
    seconds. What else runs on the machine then slows all of them; every other round goes backwards."""
    found = {name: {"wall": [], "cpu": []} for name in actions}
    for turn in range(-1, rounds):
        for name, action in sorted(actions.items(), reverse=turn % 2 == 1):
            synchronize()
            wall, cpu = time.perf_counter(), time.process_time()
            action()
            synchronize()
            if turn >= 0:
                found[name]["wall"].append(time.perf_counter() - wall)
                found[name]["cpu"].append(time.process_time() - cpu)
    return found


def ratio(found, one, other, clock="wall"):
    """Median seconds of ``one`` over those of ``other``."""
    return median(found[one][clock]) / median(found[other][clock])


def finish(name, provenance, started, bars, results=None, **measured):
    """Write <results>/<name>.json and say which bars were met; returns the exit code, 1 for a miss.

    provenance: taken at the start, so that the load is not our own; started: time.perf_counter() then;
    bars: {name: (value, "<=" or ">=", bound)}; results: a folder, benchmarks/results if None.
    """
    from mlegfn.artifacts import write_json

    checked = {
        bar: {
            "value": value,
            "is": sign,
            "bound": bound,
            "met": value <= bound if sign == "<=" else value >= bound,
        }
        for bar, (value, sign, bound) in bars.items()
    }
    path = Path(results or RESULTS) / f"{name}.json"
    seconds = time.perf_counter() - started
    write_json(path, {"benchmark": name, **provenance, "seconds": seconds, "bars": checked, **measured})
    for bar, found in checked.items():
        outcome = "met" if found["met"] else "MISSED"
        print(f"{bar}: {found['value']:.3f}, asked for {found['is']} {found['bound']}: {outcome}")
    print(f"{path} ({seconds:.0f} s)")
    return 0 if all(found["met"] for found in checked.values()) else 1
