"""One stage of dvc.yaml while it runs: its name, its settings, its inputs, and its finished parts."""

import contextlib
import fcntl
import hashlib
import json
import re
import shutil
import time
from pathlib import Path

from mlegfn.artifacts import read_json, sha256, write_bytes, write_json
from mlegfn.errors import UserError
from reproduction import hashes
from reproduction.settings.yaml_file import read_yaml

__all__ = ["Part", "Stage", "code_hash", "declaration", "parameter_keys", "recorded_outputs"]

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")  # of a file, of a folder's listing


def declaration(module, path="dvc.yaml"):
    """(name, definition) of the stage in dvc.yaml whose command is ``mlegfn stage <module> …``; else a UserError."""
    stages = read_yaml(path)["stages"]
    for name, definition in stages.items():
        definition = definition.get("do", definition)
        if definition["cmd"].split()[:3] == ["mlegfn", "stage", module]:
            return name, definition
    raise UserError(f"{module}: no stage of {path} runs it; `dvc stage list` lists the stages")


def parameter_keys(definition):
    """The keys of settings that a stage of dvc.yaml names, of params.yaml and of the files in params/."""
    keys = []
    for entry in definition.get("params", ()):
        keys += [key for own in entry.values() for key in own] if isinstance(entry, dict) else [entry]
    return keys


def code_hash(paths):
    """Hex SHA-256 of source files and of the Python files in folders; a missing one is a UserError."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        if not all(file.is_file() for file in files):
            raise UserError(f"{path}: not found, but dvc.yaml names it; restore it from git")
        for file in files:
            digest.update(f"{file.as_posix()}:{sha256(file)}\n".encode())
    return digest.hexdigest()


def recorded_outputs(path="dvc.lock", attempts=30):
    """{path: (stage, MD5)} of every output that dvc.lock records; empty where there is no such file.

    DVC writes the file in place, for up to a second, so that a reader beside it can find half of it. It holds its own lock
    meanwhile, for which this waits; and a file that is cut short is read again, ``attempts`` times at most, a tenth of a
    second apart, before it counts as broken (a UserError).
    """
    import yaml

    for attempt in range(attempts):
        try:
            with _while_dvc_writes_nothing(Path(path).parent / ".dvc/tmp/lock"):
                text = Path(path).read_text(encoding="utf-8")
            stages = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
            if not all(
                _whole(item) for entry in stages.values() for item in (*entry.get("deps", ()), *entry["outs"])
            ):
                raise KeyError("a file that is cut short inside a number is valid YAML")
            return {
                out["path"]: (name, str(out["md5"]))
                for name, entry in stages.items()
                for out in entry["outs"]
            }
        except FileNotFoundError:
            return {}
        except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
            if attempt + 1 < attempts:
                time.sleep(0.1)
    raise UserError(f"{path}: not as DVC writes it; restore it from git")


def _whole(item):
    """Whether a dependency or an output of dvc.lock has all of what DVC writes of it."""
    numbers = (item[key] for key in ("size", "nfiles") if key in item)
    return bool(MD5.fullmatch(str(item["md5"]))) and all(isinstance(number, int) for number in numbers)


@contextlib.contextmanager
def _while_dvc_writes_nothing(lock, patience=100):
    """Hold DVC's lock file shared for the block; after ``patience`` tenths of a second, or without such a file, go on
    without it."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            file = held.enter_context(open(lock, "rb"))
            for _ in range(patience):
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.1)
        yield


class Stage:
    """What a stage module's ``run`` is called with.

    :ivar name: its name in dvc.yaml, ``finetune@digits-tbc``
    :ivar scale: ``digits``
    :ivar item: what dvc.yaml loops over beside the scale (an arm, a problem, a family, …), or None
    :ivar settings: the block of params.yaml of its experiment and scale
    :ivar items: every such item of the experiment at this scale, in params.yaml's order
    :ivar lists: the same by the name of the list in params.yaml
    :ivar entry: the item's entry in the list that dvc.yaml loops over, None for the image experiment
    :ivar code: paths of its source code, by dvc.yaml
    :ivar outputs: the paths that it writes, by dvc.yaml
    :ivar parameters: the keys of the settings that dvc.yaml names for it
    """

    def __init__(self, module, scale, item, params):
        self.module, self.scale, self.item = module, scale, item
        self.experiment = module.partition(".")[0]
        base, definition = declaration(module)
        self.entry = params.runs(self.experiment, scale).get(item)
        self.definition, words = definition, dict(zip(definition["cmd"].split()[3:], [scale, item]))
        words |= {f"${{item.{key}}}": value for key, value in self.entry or ()}
        self.name = f"{base}@{scale}" + (f"-{item}" if item else "")
        self.code = [
            _substitute(path, words) for path in definition["deps"] if path.startswith(("src/", "claims/"))
        ]
        self.outputs = [
            _substitute(next(iter(out)) if isinstance(out, dict) else out, words)
            for out in definition["outs"]
        ]
        self.parameters = [_substitute(key, words) for key in parameter_keys(definition)]
        self.settings = params.block(self.experiment, scale)
        self.items, self.lists = params.items(self.experiment, scale), params.lists(self.experiment, scale)
        self.code_hash = code_hash(self.code)
        self.inputs = {}  # {path: MD5} of what it was given by other stages
        self._parts, self._recorded = {}, None

    @property
    def data(self):
        """Folder of the scale's images."""
        return Path("data", self.scale)

    @property
    def needs_gpu(self):
        """Whether it computes on a GPU: dvc.yaml says that such a stage can, and the scale's settings that it does."""
        machine = getattr(self.settings, "machine", None)
        return bool(self.definition.get("meta", {}).get("gpu")) and machine.accelerator == "gpu"

    def path(self, *parts):
        """A path below results/<scale>/<experiment>."""
        return Path("results", self.scale, self.experiment, *map(str, parts))

    def input(self, path):
        """``path``, which other stages made, once it is what dvc.lock records of them; else a UserError names it."""
        self._recorded = recorded_outputs() if self._recorded is None else self._recorded
        path = Path(path)
        for output, (producer, recorded) in self._recorded.items():
            inside = Path(output).is_relative_to(path) or path.is_relative_to(output)
            if not inside or output in self.inputs or producer == self.name:
                continue
            if not Path(output).exists():
                raise UserError(
                    f"{output}: not found; {producer} makes it: `dvc repro {producer}` or `make restore`"
                )
            self.inputs[output] = hashes.md5(output)
            if self.inputs[output] != recorded:
                raise UserError(
                    f"{output}: not what {producer} made (MD5 {self.inputs[output]}, dvc.lock records {recorded}); "
                    "it is not used; delete it and run `make reproduce`"
                )
        if not path.exists():
            raise UserError(f"{path}: not found; `make reproduce SCALE={self.scale}` makes it")
        return path

    def part(self, name, outputs, settings, inputs=()):
        """A ``Part`` of this stage: one seed or checkpoint. Parts that a run does not ask for are deleted at its end.

        outputs: the paths that it writes; settings: JSON-able, all that its result depends on beside source code and
        inputs; inputs: files and folders that it reads.
        """
        self._parts[name] = Part(self, name, outputs, settings, inputs)
        return self._parts[name]

    def keep(self, name, settings, compute, folder=None):
        """(value, tensors) that ``compute()`` returned, from disk where settings and source code are as they were.

        For a part whose result is small: value is JSON-able, tensors {name: tensor}. Both are returned as they are
        read from the disk: tuples have become lists.

        :param folder: below ``runs``; the item, or the stage's name where it has none. Two stages of an experiment that
            have equal items need two folders.
        """
        from safetensors.torch import load_file, save

        folder = self.path("runs", folder or self.item or self.name.partition("@")[0])
        value_file, tensor_file = folder / f"{name}.json", folder / f"{name}.safetensors"
        part = self.part(name, [value_file, tensor_file], settings)
        if not part.finished:
            value, tensors = compute()
            contiguous = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
            write_bytes(tensor_file, save(contiguous))
            write_json(value_file, value)
            part.finish()
        return read_json(value_file), load_file(tensor_file)

    @property
    def parts_file(self):
        """Which parts are finished, and with what: tracked by git beside what they describe, and no output of DVC's,
        so that a change that leaves the results as they were makes nothing after them stale."""
        return self.path("parts", f"{self.name}.json")

    def read_parts(self):
        """{name: fingerprint and outputs} of the finished parts; a broken file holds none."""
        try:
            found = json.loads(self.parts_file.read_text())
            return {name: record for name, record in found.items() if isinstance(record["outputs"], dict)}
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            return {}

    def forget_others(self):
        """Delete the outputs of recorded parts that this run did not ask for."""
        recorded = self.read_parts()
        kept = {path for part in self._parts.values() for path in map(str, part.outputs)}
        for name in set(recorded) - set(self._parts):
            for path in set(recorded.pop(name)["outputs"]) - kept:
                shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink(missing_ok=True)
            write_json(self.parts_file, recorded)


class Part:
    """One seed or checkpoint of a stage, kept while its fingerprint (settings, source code, inputs) is the present one."""

    def __init__(self, stage, name, outputs, settings, inputs):
        self.stage, self.name, self.outputs = stage, name, list(outputs)
        self.fingerprint = {
            "code": stage.code_hash,
            "settings": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
            "inputs": {Path(path).as_posix(): hashes.md5(stage.input(path)) for path in inputs},
        }

    @property
    def finished(self):
        """Whether it was finished with this fingerprint, and its outputs are as they were then."""
        recorded = self.stage.read_parts().get(self.name)
        if recorded is None or {**recorded, "outputs": None} != {**self.fingerprint, "outputs": None}:
            return False
        outputs = recorded["outputs"]
        return set(outputs) == {str(path) for path in self.outputs} and all(
            Path(path).exists() and hashes.md5(path) == known for path, known in outputs.items()
        )

    @property
    def scratch(self):
        """The folder for saved states of this part; it belongs to exactly this fingerprint."""
        digest = hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()[:24]
        return self.stage.path("scratch", f"{self.stage.name}-{self.name}-{digest}")

    def finish(self):
        """Record it as finished; its outputs are written."""
        outputs = {str(path): hashes.md5(path) for path in self.outputs}
        recorded = self.stage.read_parts() | {self.name: {**self.fingerprint, "outputs": outputs}}
        write_json(self.stage.parts_file, recorded)
        shutil.rmtree(self.scratch, ignore_errors=True)


def _substitute(path, words):
    """A path or key of dvc.yaml with the scale and items of this stage in it: ``…/${item.family}.py``."""
    for template, value in words.items():
        path = path.replace(template, str(value))
    return path
