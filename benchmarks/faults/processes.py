"""A process and everything that descends from it, also what has left its session, found by a mark in /proc."""

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "MLEGFN_FAULT_TRIAL"


def marked(mark):
    """The ids of all living processes that were started, directly or not, with ``mark`` in their environment."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # A zombie's environment is empty.
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return sorted(found)


def send(pids, signum):
    """Send every process that is still there a signal."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def kill_all(mark):
    """SIGKILL until nothing is left: what is being forked meanwhile too. Returns how many there were at first."""
    first = len(marked(mark))
    while pids := marked(mark):
        send(pids, signal.SIGKILL)
    return first


def gone(mark, seconds):
    """Wait until no marked process is left; False if some are after ``seconds``."""
    deadline = time.monotonic() + seconds
    while marked(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def command_lines(mark):
    """{id: command line} of the marked processes."""
    lines = {}
    for pid in marked(mark):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            lines[pid] = line.strip()
    return lines
