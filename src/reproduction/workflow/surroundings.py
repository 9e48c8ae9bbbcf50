"""Where a stage ran: git's commit, the device, the memory that it took, the packages. Imports neither torch nor DVC."""

import hashlib
import os
import platform
import re
import resource
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

# What git tracks and what can determine a result. Results, dvc.lock, tests and docs cannot.
DECISIVE = (
    "src",
    "params.yaml",
    "params",
    "dvc.yaml",
    "claims",
    "requirements.lock",
    "Snakefile",
)


def git_state():
    """(commit, whether anything DECISIVE differs from it), (None, None) where git knows nothing.

    A file in src/ that git does not ignore and that no commit has counts as a difference, too.
    """
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=all", "--", *DECISIVE]
    # A run in the background may not take the index's lock from a user who commits meanwhile.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    except OSError:
        return None, None
    lines = done.stdout.splitlines()
    commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), None)
    if done.returncode or commit is None or not re.fullmatch("[0-9a-f]{40,64}", commit):  # "(initial)"
        return None, None
    return commit, any(not line.startswith("#") for line in lines)


UNNAMED = (
    "git cannot name the commit, so the record lacks it (`git status` says why; for a folder of another owner: "
    "`git config --global --add safe.directory {}`)"
)


def unnamed_commit():
    """What to say where ``git_state`` knows no commit."""
    return UNNAMED.format(shlex.quote(os.getcwd()))


def device():
    """What this process has computed on: a GPU if it has started CUDA, else the CPU."""
    found = {
        "kind": "cpu",
        "name": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    torch = sys.modules.get("torch")  # a stage that has not imported it has no use for a GPU
    if torch is not None and torch.cuda.is_initialized():
        peak = torch.cuda.max_memory_allocated() / 2**20
        found |= {"kind": "cuda", "name": torch.cuda.get_device_name(), "peak_memory_mib": round(peak, 1)}
    return found


def processor():
    """The CPU's name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def peak_memory_mib():
    """The most memory that this process, or the largest of its children that have ended, has had at once.

    For itself by the kernel's VmHWM, which begins anew at exec and at fork: getrusage's number is at first that
    of whoever started the process, so a figure made by a small one would count the torch of the big one above it.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    try:
        own = int(re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1])
        own *= 1024
    except (OSError, TypeError):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return round(max(own, children) / 2**20, 1)


def packages():
    """{name: version} of what requirements.in names and is installed, and the CUDA that torch was built for."""
    try:
        lines = Path("requirements.in").read_text().splitlines()
    except OSError:
        lines = []
    found = {}
    for line in lines:
        if match := re.match(r"\s*([A-Za-z0-9][\w.-]*)", line):
            try:
                found[match[1]] = _version(match[1])
            except PackageNotFoundError:
                continue
    if cuda := torch_cuda():
        found["torch-cuda"] = cuda
    return found


def _version(name):
    """importlib.metadata's ``version``, which also parses every package's description: a stage has better to do."""
    head, _, _ = (distribution(name).read_text("METADATA") or "").partition("\n\n")
    said = re.search(r"^Version:\s*(\S+)\s*$", head, re.MULTILINE)
    return said[1] if said else version(name)


def torch_cuda():
    """The CUDA version that the installed torch was built for, None if for none; from its text, not its import."""
    try:
        text = Path(distribution("torch").locate_file("torch/version.py")).read_text()
    except (PackageNotFoundError, OSError):
        return None
    built = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return built[1] if built else None


def lock_hash():
    """SHA-256 of requirements.lock, None if it is not there."""
    try:
        return hashlib.sha256(Path("requirements.lock").read_bytes()).hexdigest()
    except OSError:
        return None
