"""Where a benchmark's numbers come from: machine, versions, commit."""

import os
import platform
import subprocess
from pathlib import Path


def cpu():
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def git(*arguments):
    """What git prints, stripped."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


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
        "threads": torch.get_num_threads(),
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
    }
