"""`mlegfn stage`: one stage, its settings in, its module called, all that it prints kept in a log."""

import contextlib
import importlib
import os
import re
import shlex
import signal
import sys
import time
import traceback

from mlegfn.errors import TRY_AGAIN, Interrupted, UserError
from reproduction import params as settings
from reproduction.messages import complain, explain
from reproduction.stage import Stage, code_hash
from reproduction.workflow import provenance, ranks, running, slots, surroundings

__all__ = ["command"]

# One thread a process: results must not depend on the number of cores.
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def command(options):
    """Run the stage that the command line names; returns the exit code."""
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    if options.allow_cpu:
        os.environ["MLEGFN_ALLOW_CPU"] = "1"
    if options.ranks is not None:
        os.environ[ranks.RANKS] = options.ranks
    return run(options.module, options.scale, options.item)


def run(module, scale, item=None):
    """Run ``reproduction.<module>.run(stage, item)``; returns the exit code."""
    params = settings.load()
    stage = Stage(module, scale, item, params)
    if item is not None and item not in stage.items:
        raise UserError(
            f"{stage.name}: params.yaml has no such stage; `mlegfn status --scale {scale}` lists them"
        )
    log = running.log_path(stage.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", buffering=1) as file, copied_to(file):
        running.hold(file)
        if ranks.launched() or ranks.label():  # the log's head and end are the launcher's, or rank 0's
            code = interruptible(call, stage)
            if code == 0 and ranks.launched():
                provenance.leave_rank_report()
            return code
        started = time.monotonic()
        head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(sys.argv)} (process {os.getpid()})"
        file.write(f"\n=== {head}\n")
        record = provenance.Recording(stage)
        code = interruptible(on_devices, stage, record)
        if code == 0 and (changed := what_changed(stage, params)):
            code = complain(
                UserError(f"{stage.name}: {changed} changed while it ran; start the command again")
            )
        elif code == 0:
            write_provenance(record)
        file.write(f"=== exit {code} after {time.monotonic() - started:.1f} s\n")
    return code


def write_provenance(record):
    """Write the record of a stage that has succeeded. SIGTERM waits: the results are whole."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    if record.commit is None:
        print(f"{record.stage.name}: {surroundings.unnamed_commit()}", file=sys.stderr)
    try:
        record.write()
    finally:
        signal.signal(signal.SIGTERM, before)


def interruptible(function, *arguments):
    """``function``'s exit code, or TRY_AGAIN if SIGTERM comes where no training handles it.

    A training has a handler of its own and saves. SIGTERM may come several times: from the scheduler, and from each
    process above this one.
    """
    received = []

    def end(*_):
        received.append(True)
        if len(received) == 1:
            sys.exit(TRY_AGAIN)

    before = signal.signal(signal.SIGTERM, end)
    try:
        code = function(*arguments)
    except SystemExit as error:
        if error.code != TRY_AGAIN:
            raise
        code = TRY_AGAIN
    # After an interruption a repeated signal must not keep the process from writing how it ended.
    signal.signal(signal.SIGTERM, (lambda *_: None) if code == TRY_AGAIN else before)
    return code


def on_devices(stage, record):
    """Call the stage, on GPUs of its own where it needs some, as several ranks where that is wanted."""
    count = ranks.of(stage)
    needed = count if stage.needs_gpu else 0
    if os.environ.get("MLEGFN_ALLOW_CPU") == "1" or ranks.is_rank():
        needed = 0  # a rank under torchrun sees the devices of all
    try:
        with slots.claim(needed) if needed else contextlib.nullcontext():
            if count > 1:
                record.expect_ranks()
                return ranks.run(sys.argv[1:], count)
            return call(stage)
    except UserError as error:
        return complain(error)


def what_changed(stage, params):
    """What dvc.yaml declares for the stage and differs from what it was given; None if nothing does.

    DVC records the settings and code that it finds when a stage *ends*.
    """
    try:
        if code_hash(stage.code) != stage.code_hash:
            return "its source code"
        now = settings.load()
        same = now.block(stage.experiment, stage.scale) == stage.settings
        return None if same and now.items(stage.experiment, stage.scale) == stage.items else "its settings"
    except UserError as error:
        return str(error)


def call(stage):
    """Call the stage's module; errors are printed, a traceback only for those that no user can mend."""
    try:
        module = importlib.import_module(f"reproduction.{stage.module}")
        module.run(stage, *([stage.item] if stage.item is not None else []))
        if not ranks.label():  # of several ranks, the first
            stage.forget_others()
        return 0
    except UserError as error:
        return complain(error, ranks.label())
    except Interrupted as error:
        if not ranks.label():
            print(f"mlegfn: {error}", file=sys.stderr)
        return TRY_AGAIN
    except KeyboardInterrupt:
        print("mlegfn: interrupted; what was finished stays", file=sys.stderr)
        return 130
    except Exception as error:
        if mendable := explain(error) or not_finite(error, stage):
            return complain(mendable, ranks.label())
        traceback.print_exc()
        return 1


def not_finite(error, stage):
    """The UserError behind a NaN or an infinity, in training or where json refuses to write it; else None."""
    said = str(error)
    if not isinstance(error, (FloatingPointError, ValueError)):
        return None
    if said.startswith("Out of range float values are not JSON compliant"):
        return UserError(
            f"{stage.path()}: a number that {stage.name} has to write is not finite: a training has diverged, or what "
            f"it is computed from is damaged, which `mlegfn verify --scale {stage.scale}` would name"
        )
    return UserError(f"{stage.name}: {said}") if re.search(r"\bfinite\b", said) else None


@contextlib.contextmanager
def copied_to(file):
    """Everything printed meanwhile also goes to ``file``."""
    with (
        contextlib.redirect_stdout(Copy(sys.stdout, file)),
        contextlib.redirect_stderr(Copy(sys.stderr, file)),
    ):
        yield


class Copy:
    """A text stream that writes to two; every other question is answered by the first."""

    def __init__(self, stream, file):
        self._stream, self._file = stream, file

    def write(self, text):
        self._file.write(text)
        return self._stream.write(text)

    def flush(self):
        self._file.flush()
        self._stream.flush()

    def __getattr__(self, name):
        return getattr(self._stream, name)
