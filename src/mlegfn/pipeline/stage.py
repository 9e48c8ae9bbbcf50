"""One stage: its settings in, its module called, all that it prints kept in a log."""

import contextlib
import importlib
import os
import re
import shlex
import signal
import sys
import time
import traceback
from pathlib import Path

from mlegfn import graph
from mlegfn.cli import complain, explain
from mlegfn.errors import TRY_AGAIN, Interrupted, UserError
from mlegfn.pipeline import engine, live, provenance, ranks, running, slots, verify
from mlegfn.pipeline.snapshot import snapshot

# What a stage's name says after its scale, in its order.
KEYS = ("step", "arm", "seed", "problem", "family", "task", "station")
# One thread a process: results must not depend on the number of cores, and parallelism is the engine's.
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def command(options):
    """`mlegfn stage`: ``run`` by what the command line says."""
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    if options.allow_cpu:
        os.environ["MLEGFN_ALLOW_CPU"] = "1"
    if options.ranks is not None:
        os.environ["MLEGFN_RANKS"] = options.ranks
    key = {k: getattr(options, k) for k in KEYS}
    return run(options.name, options.scale, {k: v for k, v in key.items() if v is not None})


def stage_name(stage, scale_name, key):
    """The name by which DVC, Snakemake and the logs call a stage: ``finetune@digits-600-tbc-0``."""
    parts = [key.get(k) for k in KEYS]
    if key.get("arm") == "baseline":
        parts = ["baseline", key.get("step")]
    return f"{stage}@" + "-".join(str(part) for part in (scale_name, *parts) if part is not None)


def log_path(scale_name, name):
    """Where the stage ``name`` keeps what it prints."""
    return Path("results", scale_name, "logs", f"{name}.log")


def run(stage, scale_name, key):
    """Run ``mlegfn.stages.<stage>.run(scale_name, scale, **key)``; returns the exit code."""
    params = graph.checked(scale_name)
    name = stage_name(stage, scale_name, key)
    known = graph.derive(params)
    if stage not in known:
        raise UserError(f"{stage}: no such stage; there are {', '.join(known)}")
    if name.split("@")[1] not in known[stage]:
        raise UserError(
            f"{name}: params.yaml asks for no such stage; `mlegfn plan --scale {scale_name}` lists them"
        )

    log = log_path(scale_name, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", buffering=1) as file, copied_to(file):
        running.hold(file)
        if ranks.launched() or ranks.label():  # the log's head and end are the launcher's, or rank 0's
            code = interruptible(attempt, stage, scale_name, params.scale(scale_name), key)
            if code == 0 and ranks.launched():
                provenance.tell()
            return code
        started = time.monotonic()
        file.write(
            f"\n=== {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(sys.argv)} (process {os.getpid()})\n"
        )
        told, record = snapshot(name, scale_name), provenance.Run(name, scale_name)
        code = interruptible(on_devices, stage, scale_name, params.scale(scale_name), key, record)
        if code == 0 and not unchanged(told, name, scale_name):
            code = complain(
                UserError(
                    f"{name}: its settings or source code changed while it ran; start the command again"
                )
            )
        elif code == 0:
            written(record)
        file.write(f"=== exit {code} after {time.monotonic() - started:.1f} s\n")
    return code


def interruptible(function, *arguments):
    """``function``'s exit code, or TRY_AGAIN if SIGTERM comes where nobody else hears it.

    A training has a handler of its own and saves. Elsewhere there is nothing to save, but the log gets its last
    line. SIGTERM may come several times: from the scheduler, and from each process above this one.
    """
    heard = []

    def end(*_):
        heard.append(True)
        if len(heard) == 1:
            sys.exit(TRY_AGAIN)

    before = signal.signal(signal.SIGTERM, end)
    try:
        code = function(*arguments)
    except SystemExit as error:
        if error.code != TRY_AGAIN:
            raise
        code = TRY_AGAIN
    # Whoever says it once more may not keep the process from saying how it ended.
    signal.signal(signal.SIGTERM, (lambda *_: None) if code == TRY_AGAIN else before)
    return code


def written(record):
    """Write the provenance of a stage that has succeeded. Its results count for more: a failure is only said, and
    SIGTERM, after which DVC would delete them, waits."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        record.write()
    except UserError as error:
        complain(error)
    finally:
        signal.signal(signal.SIGTERM, before)


def on_devices(stage, scale_name, scale, key, record):
    """Call the stage, on GPUs that are its own where it needs some, as several ranks where that is wanted."""
    needed = engine.read(scale_name).stages[record.name].meta.get("resources", {}).get("gpu", 0)
    if os.environ.get("MLEGFN_ALLOW_CPU") == "1" or ranks.is_rank():
        needed = 0  # a rank under torchrun sees the devices of all
    try:
        verify.inputs(record.name, scale_name)
        count = ranks.of(stage)
        with slots.claim(needed * count) if needed else contextlib.nullcontext():
            if count > 1:
                record.expect_ranks()
                return ranks.run(sys.argv[1:], count)
            return attempt(stage, scale_name, scale, key)
    except UserError as error:
        return complain(error)


def unchanged(told, name, scale_name):
    """Is what dvc.yaml declares for the stage still what it was told? A broken file is a change too."""
    try:
        return snapshot(name, scale_name) == told
    except (UserError, OSError, KeyError):
        return False


def attempt(stage, scale_name, scale, key):
    """Call the stage; errors are printed, a traceback only for those that no user can mend."""
    try:
        module = importlib.import_module(f"mlegfn.stages.{stage}")
        with live.watched(module, scale_name, scale, stage_name(stage, scale_name, key)):
            module.run(scale_name, scale, **key)
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
        if mendable := explain(error) or _not_finite(error, stage_name(stage, scale_name, key), scale_name):
            return complain(mendable, ranks.label())
        traceback.print_exc()
        return 1


def _not_finite(error, name, scale_name):
    """The UserError behind a NaN or an infinity, in training or where json refuses to write it; else None."""
    said = str(error)
    if not isinstance(error, (FloatingPointError, ValueError)):
        return None
    if said.startswith("Out of range float values are not JSON compliant"):
        return UserError(
            f"results/{scale_name}/metrics: a number that {name} has to write is not finite: a training has diverged, "
            f"or what it is computed from is damaged, which `mlegfn verify --scale {scale_name}` would name"
        )
    return UserError(f"{name}: {said}") if re.search(r"\bfinite\b", said) else None  # not "positive definite"


@contextlib.contextmanager
def copied_to(file):
    """Everything printed meanwhile also goes to ``file``."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Copy(out, file), Copy(err, file)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


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
