"""A warm server for the checkouts of a test session."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "src"


def environment(socket):
    """os.environ with the warm server that listens, or soon will, at the path ``socket``.

    In smoke's few steps numba would only compile: tests/test_compiled.py compares what it compiles with what Python
    runs.
    """
    found = {**os.environ, "MLEGFN_WARM": str(socket), "OMP_NUM_THREADS": "1", "NUMBA_DISABLE_JIT": "1"}
    found.pop("PYTHONDONTWRITEBYTECODE", None)  # or each of hundreds of processes compiles our modules
    return found


@contextlib.contextmanager
def running(folder):
    """Start a server in ``folder``, whose params.yaml and dvc.yaml it parses; the path where it listens, as text."""
    socket = folder / "socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "mlegfn", "warm", str(socket)],
        env={**environment(socket), "PYTHONPATH": str(SOURCES)},
        cwd=folder,
    )
    try:
        deadline = time.monotonic() + 60
        while not socket.exists() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        yield str(socket)
    finally:
        server.terminate()
        server.wait()
