"""One run at a time in a checkout."""

import contextlib
import errno
import os
import socket
from pathlib import Path

from mlegfn.errors import UserError

LOCK = ".mlegfn.lock"
NOT_OF_LOCKS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def only_one(command):
    """Two runs in one checkout would wait for each other's stages and report each other's failures.

    The kernel holds the lock for the process, and lets it go when that dies, however it dies. UserError where
    another process has it, or where the file system has no locks.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(LOCK, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{LOCK}: another {holder()} runs in this checkout; wait for it or stop it") from None
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) in NOT_OF_LOCKS:
            raise  # the command line has words for it
        raise UserError(
            f"{LOCK}: this file system has no file locks ({getattr(error, 'strerror', None) or error}), so two runs "
            "could not be kept apart; put the checkout on one that has"
        ) from None
    try:
        Path(LOCK).write_text(f"{command} {os.getpid()} {socket.gethostname()}\n")
        yield
    finally:
        lock.release()


def holder():
    """What the lock's holder wrote about itself: its command, and which process on which machine."""
    try:
        name, process, host = Path(LOCK).read_text().split()
    except (OSError, ValueError):
        return "`mlegfn reproduce`"
    return f"`mlegfn {name}` (process {process} on {host})"
