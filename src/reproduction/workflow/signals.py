"""How a request to stop reaches a training.

`mlegfn reproduce` passes SIGTERM, SIGHUP and Ctrl-C on as SIGTERM to every process that it started. A training finishes
its step, saves its state and exits with code 75; hearing the request twice is the same to it as once. What has not ended
within the grace time (MLEGFN_GRACE, seconds, 60) is killed.
"""

import contextlib
import os
import signal

__all__ = ["asked_to_stop", "grace"]

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def grace():
    """Seconds that a stage has for saving its state after it was asked to stop."""
    try:
        return max(0.0, float(os.environ["MLEGFN_GRACE"]))
    except (KeyError, ValueError):
        return 60.0


@contextlib.contextmanager
def asked_to_stop(on_signal=None):
    """Yields a list that fills with the signals by which this process is asked to stop; ``on_signal`` is called too."""
    received = []

    def note(number, _):
        received.append(number)
        if on_signal is not None:
            on_signal(number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
