"""Errors as a user should read them: one line, what is wrong, where, what to do."""

import errno
import os
import re
import shutil
import sys

from mlegfn.errors import UserError

__all__ = ["STAGE_MEMORY", "complain", "explain"]

# What to lower where a stage runs out of memory.
STAGE_MEMORY = "`batch` or `consistency.chunk` of this scale in params.yaml"


def complain(error, who=""):
    """Print a UserError as the user should see it; returns the exit code."""
    print(f"mlegfn: {who}{error}", file=sys.stderr)
    return 2


# How libraries word what the kernel told them: Rust's, Python's (in DVC's messages too), SQLite's.
WORDS = (
    (r"\bos error (\d+)|\[Errno (\d+)\]", None),
    (r"database or disk is full", errno.ENOSPC),
    (r"disk I/O error", errno.EIO),
    (r"readonly database|unable to open database file", errno.EROFS),
)


def explain(error, lower=STAGE_MEMORY, unnamed="a file"):
    """The UserError behind an exception that the machine, not the code, is to blame for; else None.

    ``lower``: the setting that saves memory. ``unnamed``: what to call a file that the error does not name.
    """
    # Of a folder that was copied, each file's error is text in a list; once the error has a name, str() leaves it out.
    text = f"{error} {error.args}" if isinstance(error, shutil.Error) else str(error)
    number = getattr(error, "errno", None) or _kernel_said(text)
    quoted = re.search(r"""['"]([^'"\n]*/[^'"\n]+)['"]""", text)
    if type(error).__module__ == "sqlite3":  # it names no file, and here only DVC uses it
        unnamed = "DVC's notes on files (SQLite, in .dvc/tmp and DVC's site cache)"
    name = getattr(error, "filename", None) or (quoted[1] if quoted else unnamed)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{name}: no space left on the device; free some and run again, what is finished stays"
        )
    if number == errno.EFBIG:
        return UserError(
            f"{name}: larger than a file may be here; see `ulimit -f` and the disk's quota, then run again"
        )
    if number == errno.EIO:
        return UserError(
            f"{name}: the disk failed to read or write ({os.strerror(number)}); is it full, broken, or are files "
            "limited (`ulimit -f`)?"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(
            f"{name}: not permitted ({os.strerror(number)}); give this user the right to it and run again"
        )
    if number in (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return UserError(
            f"{str(name)[:200]}: cannot be used ({error.strerror}); see what stands there, or rename it"
        )
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or "DefaultCPUAllocator" in text:  # torch's word for it on a CPU, in a plain RuntimeError
        return UserError(f"out of memory; lower {lower}")
    return None


def _kernel_said(text):
    """The kernel's error number in a library's message, None without one."""
    for pattern, number in WORDS:
        if match := re.search(pattern, text):
            return number or int(next(filter(None, match.groups())))
    return None
