"""Where a training in progress keeps its state, so that an interruption costs minutes.

Both engines wipe a stage's declared outputs when it starts, so this lies in results/<scale>/scratch,
which is neither declared nor tracked, under a fingerprint of settings, code and data: a state that
belongs to anything else is never found.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path

from mlegfn.artifacts import atomic_directory, read_json, sha256, write_json
from mlegfn.errors import UserError
from mlegfn.training.checkpoint import read_safetensors

__all__ = ["Scratch", "fingerprint"]

CODE = ("data", "training", "diffusion", "objectives", "networks", "stages", "randomness.py", "trajectory.py")


def fingerprint(settings, files=(), folders=()):
    """Hex digest of a JSON-able value, of files' contents, and of the code that trains."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    package = Path(__file__).parent.parent
    code = [path for name in CODE for path in sorted([package / name, *(package / name).rglob("*.py")])]
    inside = [path for folder in folders for path in sorted(Path(folder).rglob("*"))]
    for path in [*code, *map(Path, files), *inside]:
        if path.is_file():
            digest.update(f"{path.name}:{sha256(path)}\n".encode())
    return digest.hexdigest()[:24]


class Scratch:
    """Saved states of one training: ``folder``/<step>/ holds state.safetensors and logs.json."""

    def __init__(self, folder, every_minutes):
        self.folder, self.every, self.last = Path(folder), 60 * every_minutes, time.monotonic()

    def resume(self, state, logs):
        """Load the newest whole state into ``state`` and its log entries into ``logs``, if there is one."""
        for step in sorted((int(p.name) for p in self.folder.glob("[0-9]*")), reverse=True):
            try:
                flat = read_safetensors(self.folder / str(step) / "state.safetensors")
                saved = read_json(self.folder / str(step) / "logs.json")
                state.load(flat)  # all or nothing
            except (UserError, ValueError, KeyError) as error:
                print(f"ignoring a damaged saved state: {error}")
                continue
            logs[:] = saved
            print(f"resuming at step {step} from {self.folder}")
            return

    def maybe_save(self, state, logs):
        """Save if the interval has passed. The previous state goes only when the new one is on disk."""
        if time.monotonic() - self.last < self.every:
            return
        from safetensors.torch import save_file

        with atomic_directory(self.folder / str(state.step)) as folder:
            save_file(state.tensors(), folder / "state.safetensors")
            write_json(folder / "logs.json", logs)
        for old in self.folder.glob("[0-9]*"):
            if int(old.name) != state.step:
                shutil.rmtree(old, ignore_errors=True)
        self.last = time.monotonic()

    def remove(self):
        """Forget the saved states: the declared output stands."""
        shutil.rmtree(self.folder, ignore_errors=True)
