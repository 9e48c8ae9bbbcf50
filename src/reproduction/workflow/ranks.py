"""Several ranks of one stage: as many processes of the same command, each told its number, torchrun's way.

torchrun itself would start them too, but turns every exit code of a rank into 1 (tried: 75 becomes 1) and so
hides an interruption from whoever decides about a retry.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

from mlegfn.errors import TRY_AGAIN, UserError
from reproduction.workflow.signals import asked_to_stop, grace

# The stages whose work is shared out among ranks; the others run as one process.
MODULES = ("images.pretrain", "images.finetune", "images.baseline_nll", "images.nll")
RANKS, LAUNCHER = "MLEGFN_RANKS", "MLEGFN_LAUNCHER"
# After one rank has failed the others wait for it in vain; this long they may still say why they fail too.
LAST_WORDS_S = 5.0
POLL_S = 0.05


def wanted(text=None):
    """How many ranks a stage shall have: ``text``, else MLEGFN_RANKS, else 1. No whole number: a UserError."""
    text = os.environ.get(RANKS) if text is None else text
    if text is None or not text.strip():
        return 1
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= 1024:
        raise UserError(f"RANKS={text}: not a number of ranks; say how many, as in RANKS=2")
    return count


def of(stage):
    """How many ranks a ``Stage`` has when this process runs it: 1 for a rank itself."""
    return 1 if is_rank() or stage.module not in MODULES else wanted()


def is_rank():
    """Whether this process is one of several, started by ``run`` or by torchrun."""
    return "RANK" in os.environ


def launched():
    """Whether ``run`` started this process: then the stage's log is the launcher's."""
    return is_rank() and LAUNCHER in os.environ


def label():
    """What a rank's complaints begin with."""
    rank = os.environ.get("RANK", "0")
    return "" if rank == "0" else f"rank {rank}: "


def run(arguments, count):
    """Run ``mlegfn <arguments>`` as ``count`` ranks on this machine; returns one exit code for all.

    0: all did well. TRY_AGAIN: they were interrupted, or one was killed. Else the code of the first to fail; the
    others are killed. SIGTERM, SIGHUP and Ctrl-C are passed on as SIGTERM; ranks that do not end within the
    grace time are killed. The ranks die with this process.
    """
    environment = {
        **os.environ,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        LAUNCHER: str(os.getpid()),
    }
    processes = []
    with asked_to_stop() as asked:
        try:
            for rank in range(count):
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "reproduction", *arguments],
                        env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                        stdin=subprocess.DEVNULL,
                    )
                )
            return watch(processes, asked)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def watch(processes, asked):
    """Wait until every process has ended, or has to; returns the exit code for all."""
    codes, passed_on, deadline = {}, False, None
    while len(codes) < len(processes) and (deadline is None or time.monotonic() < deadline):
        for rank, process in enumerate(processes):
            if rank not in codes and process.poll() is not None:
                codes[rank] = process.returncode
                if process.returncode and deadline is None:
                    # One that was interrupted had the others agree; one that failed left them hanging.
                    patience = grace() if process.returncode == TRY_AGAIN else LAST_WORDS_S
                    deadline = time.monotonic() + patience
        if asked and not passed_on:
            passed_on, deadline = True, time.monotonic() + grace()
            for rank, process in enumerate(processes):
                if rank not in codes:
                    process.terminate()
        time.sleep(POLL_S)
    bad = [(rank, code) for rank, code in codes.items() if code]  # in the order in which they ended
    if not bad:
        return 0 if len(codes) == len(processes) else TRY_AGAIN
    # SIGTERM is how a rank ends that does not know how to save.
    killed = [(rank, code) for rank, code in bad if code in (-signal.SIGKILL, -signal.SIGTERM)]
    for rank, code in killed:
        print(f"mlegfn: rank {rank} was killed by signal {-code}", file=sys.stderr)
    failed = [code for rank, code in bad if (rank, code) not in killed and code != TRY_AGAIN]
    if killed and bad[0] in killed:  # the others' complaints are about the one that is gone
        return TRY_AGAIN
    return TRY_AGAIN if not failed else failed[0] if failed[0] > 0 else 1


def free_port():
    """A TCP port of this machine that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_with_launcher():
    """In a rank on Linux: ask the kernel to kill this process when the launcher dies; elsewhere the launcher does."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != int(os.environ[LAUNCHER]):
        os._exit(1)
