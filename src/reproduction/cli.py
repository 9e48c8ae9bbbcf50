"""The command line. Imports the standard library only, until a subcommand needs more."""

import locale
import os
import sys

from mlegfn.errors import UserError
from reproduction import arguments
from reproduction.messages import STAGE_MEMORY, complain, explain


def main(argv=None):
    """Run one command; returns the exit code.

    0: done, 1: it failed, 2: the user can mend it, 75: interrupted, run it again, 130: Ctrl-C, 143: SIGTERM.
    """
    options = None
    if argv is None:
        _in_utf8()
    try:
        if "MLEGFN_LAUNCHER" in os.environ:
            from reproduction.workflow.ranks import end_with_launcher

            end_with_launcher()
        options = arguments.parser().parse_args(argv)
        return options.run(options) or 0
    except UserError as error:
        return complain(error)
    except BrokenPipeError:
        # Whoever read us (`| head`) has had enough; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except Exception as error:  # OSError, MemoryError, torch's own of memory: what it is, `explain` knows
        mendable = explain(error, getattr(options, "lower", STAGE_MEMORY))
        if mendable is None:
            raise
        return complain(mendable)
    except KeyboardInterrupt:
        print("mlegfn: interrupted; what was finished stays", file=sys.stderr)
        return 130


def _in_utf8():
    """In a locale whose encoding is not UTF-8 (plain C, for one), start again in Python's UTF-8 mode, as will every
    process that this one starts: settings, claims and what is printed hold letters that other encodings lack."""
    if locale.getpreferredencoding(False).lower().replace("-", "") != "utf8":
        os.environ |= {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
