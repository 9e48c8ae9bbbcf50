"""Where a training in progress keeps its state, so that an interruption costs minutes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mlegfn.artifacts import atomic_directory, read_json, write_json
from mlegfn.errors import UserError
from mlegfn.training import distributed
from mlegfn.training.checkpoint import read_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlegfn.artifacts import StrPath
    from mlegfn.training.loop import Entry
    from mlegfn.training.state import TrainingState

__all__ = ["Scratch"]


class Counts(Protocol):
    """Attributes that are numbers, such as ``mle_gfn.Evaluations``."""

    def of_all_ranks(self) -> object:
        """The same attributes, each the sum over ranks."""


class Scratch:
    """Saved states of one training: ``folder``/<step>/ holds state.safetensors and record.json.

    The folder must belong to exactly this training: whatever state lies in it is taken for one of its own.

    ``logs`` (a list of dicts) and ``counts`` (an object whose attributes are numbers, or None) are saved with
    the state and restored into these same objects. ``points``: a folder for what the training has finished on
    its way; it lasts as long as the states.
    """

    def __init__(
        self, folder: StrPath, every_minutes: float, logs: list[Entry], counts: Counts | None = None
    ) -> None:
        self.folder, self.every = Path(folder), 60 * every_minutes
        self.logs, self.counts = logs, counts
        self.last = time.monotonic()  # not the time of day, which may jump
        self.points = self.folder / "points"

    def resume(self, state: TrainingState, usable: Callable[[int], bool] = lambda step: True) -> None:
        """Load the newest whole state of a step that is ``usable`` into ``state``, if there is one."""
        for step in sorted((int(p.name) for p in self.folder.glob("[0-9]*")), reverse=True):
            if not usable(step):
                continue
            try:
                flat = read_safetensors(self.folder / str(step) / "state.safetensors")
                record = read_json(self.folder / str(step) / "record.json")
                logs, counts = record["logs"], record["counts"]
                state.load(flat)  # all or nothing
            except (UserError, ValueError, KeyError, TypeError) as error:
                print(f"ignoring a damaged saved state: {error}")
                continue
            self.logs[:] = logs
            if distributed.is_first():
                print(f"resuming at step {step} from {self.folder}")
                if self.counts is not None:  # those of all ranks
                    vars(self.counts).update(counts)
            break
        distributed.wait()  # until all have read it, the first rank must not replace it

    def due(self) -> bool:
        """Whether the interval has passed. Ranks ask their own clocks, and only the first one saves."""
        return time.monotonic() - self.last >= self.every

    def save(self, state: TrainingState) -> None:
        """Write the state. The previous one goes only when the new one is on disk."""
        from safetensors.torch import save_file

        counts = self.counts.of_all_ranks() if self.counts is not None else None
        if distributed.is_first():
            with atomic_directory(self.folder / str(state.step)) as folder:
                save_file(state.tensors(), folder / "state.safetensors")
                write_json(
                    folder / "record.json",
                    {"logs": self.logs, "counts": vars(counts) if counts is not None else None},
                )
            for old in self.folder.glob("[0-9]*"):
                if int(old.name) != state.step:
                    shutil.rmtree(old, ignore_errors=True)
        self.last = time.monotonic()

    def remove(self) -> None:
        """Forget the saved states: the declared output stands."""
        shutil.rmtree(self.folder, ignore_errors=True)
