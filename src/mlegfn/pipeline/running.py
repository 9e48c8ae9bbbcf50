"""Which stages run in this checkout right now, and how far they are.

A stage holds the kernel's lock on its log. The kernel drops it when the process ends, however it ends, and no
other process can be taken for it, as could happen with process numbers.
"""

import contextlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

STARTED = re.compile(r"^=== (2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d) ", re.MULTILINE)
TAIL = 20_000  # bytes of a log that are looked through for its last line


@dataclass
class Running:
    """A stage that runs. ``since``: seconds since the epoch, None if its log does not say; ``said``: its last line."""

    name: str
    since: float | None
    said: str

    @property
    def seconds(self):
        """How long it has run."""
        return None if self.since is None else max(0.0, time.time() - self.since)


def hold(file):
    """Take the lock of the log that this stage writes to, until the process ends or closes it."""
    with contextlib.suppress(OSError, ImportError):  # a file system without locks: then `status` cannot tell
        import fcntl

        fcntl.flock(file, fcntl.LOCK_SH)  # shared, because the ranks of a stage hold it together


def held(path):
    """Whether a process holds the lock of a file."""
    import fcntl

    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or no locks
        pass
    return False


def stages(scale_name, names):
    """{name: Running} of those of the stages ``names`` that run now."""
    logs = Path("results", scale_name, "logs")
    return {name: look(name, logs / f"{name}.log") for name in names if held(logs / f"{name}.log")}


def look(name, log):
    """What the log of a running stage tells."""
    try:
        text = log.read_bytes()
    except OSError:
        text = b""
    *_, begun = [None, *STARTED.finditer(text.decode(errors="replace"))]
    since = None if begun is None else time.mktime(time.strptime(begun[1], "%Y-%m-%d %H:%M:%S"))
    lines = [line.strip() for line in re.split(r"[\r\n]", text[-TAIL:].decode(errors="replace"))]
    said = next((line for line in reversed(lines) if line), "")
    return Running(name, since, "" if said.startswith("===") else said)
