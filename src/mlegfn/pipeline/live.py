"""Live curves of a training, for TensorBoard (``engine.live`` in params.yaml).

Nothing that trains knows of this: DVC hashes that code, and no result depends on whether somebody watches. So
the function ``train`` that a stage's module uses is replaced, for the time of the stage, by one that also hears
what each step logs. The curves lie in results/<scale>/logs/tensorboard/<stage>:
``tensorboard --logdir results/<scale>/logs/tensorboard``.
"""

import contextlib
import os
from pathlib import Path

from mlegfn.errors import UserError


@contextlib.contextmanager
def watched(module, scale_name, scale, name):
    """Meanwhile the trainings of the stage ``name`` (its module is ``module``) write curves, if the scale says so."""
    wanted = scale.engine is not None and scale.engine.live == "tensorboard"
    if not wanted or not hasattr(module, "train") or os.environ.get("RANK", "0") != "0":
        yield
        return
    train, curves = module.train, Curves(folder(scale_name, name))

    def train_and_tell(state, *arguments, **options):
        with curves.of(state, options):
            return train(state, *arguments, **options)

    module.train = train_and_tell
    try:
        yield
    finally:
        module.train = train
        curves.close()


def folder(scale_name, name):
    """Where the curves of a stage lie."""
    return Path("results", scale_name, "logs", "tensorboard", name)


class Curves:
    """Event files of one stage, which all its calls of ``train`` write into."""

    def __init__(self, path):
        self.path, self.writer, self.pending = path, None, []

    @contextlib.contextmanager
    def of(self, state, options):
        """Make the ``options`` of a call of ``train`` such that each step's entry comes here, too."""
        if self.writer is None:
            self._open(state.step, getattr(options.get("saver"), "logs", None) or [])
        after_step, saver = options.get("after_step"), options.get("saver")

        def hear(state, entry):
            if after_step is not None:
                after_step(state, entry)
            self.pending.append(entry)
            self.write()

        options["after_step"] = hear
        if saver is not None:
            options["saver"] = Flushing(saver, self)
        try:
            yield
        finally:
            self.write()
            self.writer.flush()

    def _open(self, step, logs):
        """Go on after ``step``: TensorBoard forgets what a run that was interrupted has written from there on."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "params.yaml: engine.live: tensorboard is not installed; `make install`, or put null"
            ) from None
        before = any(self.path.glob("events.*"))
        self.writer = SummaryWriter(self.path, purge_step=step + 1)
        if not before:  # it was not watched until now, but the state that it resumes from has the log
            self.pending += logs
            self.write()

    def write(self):
        """Write the entries that are numbers by now: on a GPU the loop reads them all at once, now and then, because
        reading one makes the host wait."""
        while self.pending and not any(hasattr(value, "item") for value in self.pending[0].values()):
            entry = self.pending.pop(0)
            for key, value in entry.items():
                if key != "step" and isinstance(value, int | float):
                    self.writer.add_scalar(key, value, entry["step"])

    def close(self):
        """End the event file."""
        if self.writer is not None:
            self.writer.close()


class Flushing:
    """A saver of states before which the curves are on the disk, so that those of a killed run have no gap."""

    def __init__(self, saver, curves):
        self._saver, self._curves = saver, curves

    def due(self):
        return self._saver.due()

    def save(self, state):
        self._curves.write()
        self._curves.writer.flush()
        self._saver.save(state)
