"""GPU slots: a lock file for each device, so that two jobs never compute on one unless they are told to.

Snakemake counts GPUs but does not say which is whose, and two users' runs do not know of each other's counts.
So a stage takes the lock of a free device before CUDA starts and shows CUDA no other. The kernel drops the lock
when the process ends, however it ends. Imports no torch: it has to run before it.

MLEGFN_GPUS         the devices there are ("0,1", or any names), instead of asking the driver
MLEGFN_SHARE_GPU=1  several jobs may use one device
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mlegfn.errors import UserError

__all__ = ["Device", "claim", "devices", "shared"]

NONE = "this scale needs a GPU and none is visible; `mlegfn doctor` says why, --allow-cpu runs it on the CPU (days)"
POLL_S = 0.5


@dataclass(frozen=True)
class Device:
    """``token``: what CUDA_VISIBLE_DEVICES calls it; ``key``: what its lock file is called by."""

    token: str
    key: str


def shared():
    """Whether several jobs may use one device."""
    return os.environ.get("MLEGFN_SHARE_GPU", "0") not in ("", "0")


def devices():
    """The devices that this process may use, in CUDA's order; [] if there are none.

    MLEGFN_GPUS or else the driver says what there is; an existing CUDA_VISIBLE_DEVICES (SLURM sets one) picks
    from it, in its order. Raises UserError where one of the two names nothing.
    """
    if (named := os.environ.get("MLEGFN_GPUS")) is not None:
        names = [name.strip() for name in named.split(",") if name.strip()]
        if not names or len(set(names)) < len(names):
            what = "names a GPU twice" if names else "names no GPU"
            raise UserError(f"MLEGFN_GPUS={named!r}: {what}; list GPUs as in MLEGFN_GPUS=0,1, or unset it")
        return [Device(name, key(name)) for name in names]
    found = installed()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    picked = []
    for token in (part.strip() for part in visible.split(",")):
        device = look_up(token, found)
        if device is None:
            break  # as CUDA does: what follows a device that is not there is not visible
        picked.append(device)
    return picked


def look_up(token, found):
    """The device that a part of CUDA_VISIBLE_DEVICES names: an index, or the beginning of a UUID; else None."""
    if token.isdigit():
        if found:
            return found[int(token)] if int(token) < len(found) else None
        return Device(token, key(token))  # no driver to ask: believe it
    if not token.startswith(("GPU-", "MIG-")):
        return None
    return next((d for d in found if d.key.startswith(token)), None if found else Device(token, key(token)))


def key(name):
    """A file name for a device without a UUID. SLURM numbers every job's devices from 0, so it names the job."""
    job = os.environ.get("SLURM_JOB_ID")
    return re.sub(r"[^\w.-]", "_", f"slurm-{job}-{name}" if job else name)


def installed():
    """Every NVIDIA device of this machine, from nvidia-smi or, where that is missing, from /proc."""
    if shutil.which("nvidia-smi"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
            if said.returncode == 0:
                return listed(said.stdout)
    found = []
    for number, folder in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*"))):
        with contextlib.suppress(OSError):
            uuid = re.search(r"GPU-[0-9a-f-]{36}", (folder / "information").read_text())
            found.append(Device(str(number), uuid[0] if uuid else key(str(number))))
    return found


def listed(text):
    """The devices in what ``nvidia-smi -L`` prints; a GPU that is cut into MIG devices is those."""
    found = []
    for line in text.splitlines():
        if gpu := re.match(r"GPU (\d+): .*\(UUID: (GPU-[^)]+)\)", line):
            found.append([Device(gpu[1], gpu[2]), []])
        elif (mig := re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line)) and found:
            found[-1][1].append(Device(mig[1], mig[1]))  # CUDA calls it by its UUID
    return [device for gpu, parts in found for device in (parts or [gpu])]


@contextlib.contextmanager
def claim(count=1):
    """Hold ``count`` devices of this process's own: a context manager that yields the list of them.

    Waits, after one printed line, while others hold too many. Sets CUDA_VISIBLE_DEVICES (and the order in which
    CUDA counts, nvidia-smi's) for good: CUDA reads it once. Raises UserError when there are fewer than ``count``.
    """
    there = devices()
    if not there:
        raise UserError(NONE)
    if count > len(there):
        raise UserError(
            f"{count} GPUs wanted, {len(there)} visible; lower RANKS, or see CUDA_VISIBLE_DEVICES and MLEGFN_GPUS"
        )
    locks = acquire(there, count)
    try:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(device.token for device in locks)
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        yield list(locks)
    finally:
        for lock in locks.values():
            lock.release()


def acquire(there, count):
    """{device: lock} of ``count`` devices, once so many are free at once."""
    folder, told = lock_folder(), False
    while True:
        held = free(there, count, folder)
        if len(held) == count:
            return held
        if shared():  # after the free ones, whichever
            start = os.getpid() % len(there)
            others = [d for d in there[start:] + there[:start] if d not in held]
            return held | {device: Nothing() for device in others[: count - len(held)]}
        for lock in held.values():  # holding some while waiting for others is how two jobs block each other
            lock.release()
        if not told:
            print(
                f"waiting for {'a GPU' if count == 1 else f'{count} GPUs'}: "
                f"other jobs hold {len(there) - len(held)} of {len(there)} (MLEGFN_SHARE_GPU=1 shares)",
                file=sys.stderr,
            )
            told = True
        time.sleep(POLL_S * (0.5 + os.getpid() % 100 / 100))


def free(there, count, folder):
    """{device: lock} of up to ``count`` devices that nobody holds now."""
    from filelock import FileLock, Timeout

    held = {}
    for device in there:
        lock = FileLock(folder / f"{device.key}.lock")
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            held[device] = lock
        if len(held) == count:
            break
    return held


class Nothing:
    """The lock of a shared device."""

    def release(self):
        pass


def lock_folder():
    """The user's own folder of lock files; one that somebody else made is a UserError."""
    folder = Path(tempfile.gettempdir(), f"mlegfn-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise UserError(
            f"{folder}: belongs to somebody else, so no GPU can be locked there; remove it or set TMPDIR"
        )
    return folder
