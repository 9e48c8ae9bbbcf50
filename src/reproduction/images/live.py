"""Live curves of a training, for TensorBoard (``machine.live`` in params.yaml).

No result depends on whether somebody watches. The curves lie in results/<scale>/logs/tensorboard:
``tensorboard --logdir results/<scale>/logs/tensorboard``.
"""

import contextlib
from pathlib import Path

from mlegfn.errors import UserError
from mlegfn.training import distributed

__all__ = ["Curves", "folder", "recorded"]


@contextlib.contextmanager
def recorded(stage, name, state, scratch):
    """Yield (after_step, saver) for ``training.loop.train``: each step's entry is appended to ``scratch.logs``, and
    written as curves, too, if the scale asks for it.

    :param name: of the part that trains
    :param state: its ``TrainingState``, resumed if it is to be
    :param scratch: its ``Scratch``; with the logs of the steps before this one
    """

    def keep(state, entry):
        scratch.logs.append(entry)

    if stage.settings.machine.live != "tensorboard" or not distributed.is_first():
        yield keep, scratch
        return
    curves = Curves(stage, name, state.step, scratch.logs)

    def keep_and_draw(state, entry):
        keep(state, entry)
        curves.add(entry)

    try:
        yield keep_and_draw, Flushing(scratch, curves)
    finally:
        curves.close()


def folder(stage, name):
    """Where the curves of a part lie."""
    return Path("results", stage.scale, "logs", "tensorboard", f"{stage.name}-{name}")


class Curves:
    """The event files of one training, which goes on after ``step`` with the entries ``logs`` behind it."""

    def __init__(self, stage, name, step, logs):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                f"params.yaml: images.{stage.scale}.machine.live: tensorboard is not installed; `make install`, or "
                "put null"
            ) from None
        path = folder(stage, name)
        before = any(path.glob("events.*"))
        # TensorBoard forgets what a run that was interrupted has written from the next step on.
        self.writer, self.pending = SummaryWriter(path, purge_step=step + 1), []
        if not before:  # it was not watched until now, but the state that it resumes from has the log
            self.pending += logs
            self.write()

    def add(self, entry):
        """Take the entry of one step."""
        self.pending.append(entry)
        self.write()

    def write(self):
        """Write the entries that are numbers by now: on a GPU the loop reads them all at once, now and then, because
        reading one makes the host wait."""
        while self.pending and not any(hasattr(value, "item") for value in self.pending[0].values()):
            entry = self.pending.pop(0)
            for key, value in entry.items():
                if key != "step" and isinstance(value, int | float):
                    self.writer.add_scalar(key, value, entry["step"])

    def flush(self):
        """Put on the disk what can be written."""
        self.write()
        self.writer.flush()

    def close(self):
        """End the event file."""
        self.flush()
        self.writer.close()


class Flushing:
    """A saver of states before which the curves are on the disk, so that those of a killed run have no gap."""

    def __init__(self, saver, curves):
        self._saver, self._curves = saver, curves

    def due(self):
        return self._saver.due()

    def save(self, state):
        self._curves.flush()
        self._saver.save(state)
