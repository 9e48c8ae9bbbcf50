"""Which stages run in this checkout right now, and how far they are.

A stage holds the kernel's lock on its log. The kernel drops it when the process ends, however it ends, and no other
process can be taken for it, as could happen with process numbers.
"""

import contextlib
import fcntl
import re
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Running", "hold", "log_path", "stages"]

STARTED = re.compile(r"^=== (2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d) ", re.MULTILINE)
TAIL = 20_000  # bytes of a log that are looked through for its last line


@dataclass
class Running:
    """A stage that runs. ``since``: seconds since the epoch, None if its log does not say; ``last_line``: of its log."""

    name: str
    since: float | None
    last_line: str

    @property
    def seconds(self):
        """How long it has run."""
        return None if self.since is None else max(0.0, time.time() - self.since)


def log_path(name):
    """Where the stage ``name`` keeps what it prints."""
    scale = name.partition("@")[2].partition("-")[0]
    return Path("results", scale, "logs", f"{name}.log")


def hold(file):
    """Take the lock of the log that this stage writes to, until the process ends or closes it."""
    with contextlib.suppress(OSError):  # a file system without locks: then `status` cannot tell
        fcntl.flock(file, fcntl.LOCK_SH)  # shared, because the ranks of a stage hold it together


def held(path):
    """Whether a process holds the lock of a file."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or no locks
        pass
    return False


def names(stages):
    """Those of the stages that run now."""
    return [name for name in stages if held(log_path(name))]


def stages(stages):
    """{name: Running} of those of the stages that run now."""
    return {name: look(name, log_path(name)) for name in names(stages)}


def look(name, log):
    """What the log of a running stage says."""
    try:
        text = log.read_bytes()
    except OSError:
        text = b""
    begun = list(STARTED.finditer(text.decode(errors="replace")))
    since = time.mktime(time.strptime(begun[-1][1], "%Y-%m-%d %H:%M:%S")) if begun else None
    lines = [line.strip() for line in re.split(r"[\r\n]", text[-TAIL:].decode(errors="replace"))]
    last = next((line for line in reversed(lines) if line), "")
    return Running(name, since, "" if last.startswith("===") else last)
