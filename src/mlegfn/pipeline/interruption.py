"""How a request to stop reaches a training, and how everything above it waits until the training has saved.

A scheduler may signal the first process, or the last, or all at once. So each process between them passes a
request on as SIGTERM and waits; a training may hear it twice, which must be the same to it as once. Ctrl-C is
passed on as SIGTERM too: a terminal sends it to every process by itself, and twice Ctrl-C means "at once".
What does not end within the grace time (MLEGFN_GRACE, seconds, 60) is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys

from mlegfn.errors import TRY_AGAIN, UserError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def grace():
    """Seconds that a stage has for saving its state after it was asked to stop."""
    try:
        return max(0.0, float(os.environ["MLEGFN_GRACE"]))
    except (KeyError, ValueError):
        return 60.0


@contextlib.contextmanager
def asked_to_stop(hear=None):
    """Yields a list that fills with the signals by which this process is asked to stop; ``hear``: called too."""
    asked = []

    def note(signum, _):
        asked.append(signum)
        if hear is not None:
            hear(signum)

    before = {signum: signal.signal(signum, note) for signum in SIGNALS}
    try:
        yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def dvc(arguments):
    """DVC's command line, which passes a request to stop on to the stage that it runs; returns the exit code.

    Before a stage has started it ends at once (143 for SIGTERM); after a stage has succeeded it records that
    first. 75 if the stage says that it was interrupted.
    """
    from dvc.cli import main
    from dvc.stage import run

    from mlegfn.pipeline import dvc_content, lockfile

    lockfile.install()
    dvc_content.install()
    stage = Child()
    run._run = stage.run  # DVC's own ignores Ctrl-C and dies of SIGTERM, leaving the stage alone
    with asked_to_stop(stage.hear) as asked:
        code = main(arguments)
        if "repro" in arguments and code == 0 and not asked:
            settle([name for name in arguments if "@" in name])
    return TRY_AGAIN if stage.code == TRY_AGAIN else code


def settle(names):
    """Put the provenance of stages (none: of all) into place whose outputs DVC has taken from its run cache. What DVC
    has done is done: that this fails is only said."""
    from mlegfn import graph
    from mlegfn.cli import complain, explain
    from mlegfn.pipeline import engine, provenance

    try:
        provenance.settle(names or graph.names(engine.load_graph()))
    except UserError as error:
        complain(error, "provenance: ")
    except OSError as error:
        complain(explain(error) or UserError(str(error)), "provenance: ")


class Child:
    """The stage that DVC runs, in place of ``dvc.stage.run._run``. ``code``: its exit code, None before it ended."""

    def __init__(self):
        self.process, self.starting, self.asked, self.code = None, False, 0, None

    def hear(self, signum):
        """A request to stop."""
        first, self.asked = not self.asked, self.asked or signum
        if self.process is not None and self.code is None:
            self.stop()
        elif first and self.code is None and not self.starting:
            sys.exit(128 + signum)

    def stop(self):
        """Pass the request on, once or again; the grace time counts from the first."""
        self.process.terminate()
        if signal.getitimer(signal.ITIMER_REAL)[0] == 0:
            signal.signal(signal.SIGALRM, lambda *_: self.give_up())
            signal.setitimer(signal.ITIMER_REAL, max(grace(), 0.001))

    def give_up(self):
        print(f"mlegfn: the stage did not end within {grace():g} s: killed", file=sys.stderr)
        self.process.kill()

    def run(self, executable, cmd, **kwargs):
        """Run the stage's command in DVC's shell; anything but success is DVC's StageCmdFailedError."""
        from dvc.stage.exceptions import StageCmdFailedError
        from dvc.stage.run import _make_cmd

        if self.asked:  # it came while the stage before this one was being recorded
            sys.exit(128 + self.asked)
        self.process, self.code, self.starting = None, None, True
        # `exec`, because a shell that waits for its command would keep SIGTERM to itself.
        command = f"exec {cmd}" if cmd.startswith("mlegfn ") else cmd
        self.process = subprocess.Popen(_make_cmd(executable, command), **kwargs)
        if self.asked:  # it came between the last two lines
            self.stop()
        self.code = self.process.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.starting = False
        if self.code:
            raise StageCmdFailedError(cmd, self.code)
