"""dvc.lock, an entry at a time.

DVC parses and rewrites the whole dvc.lock, in pure Python, for every stage it runs: 4 s of a 5 s call with
the scale `digits` recorded, 20 s with all scales. The file is a flat list of entries, so ``install`` makes
DVC parse only the entries that it asks for and replace only the text of those that it changes, whole or not
at all. The bytes are the ones that DVC writes (tests/test_engines.py compares); a file that does not look as
DVC writes it is left to DVC's own code.
"""

import contextlib
import copy
import functools
import os
import re
import warnings
from collections.abc import Mapping
from types import SimpleNamespace

from mlegfn.artifacts import write_text
from mlegfn.errors import UserError
from mlegfn.pipeline.lock_yaml import parse

HEADER = "schema: '2.0'\nstages:\n"
ENTRY = re.compile(r"^  (?=\S)", re.MULTILINE)


def split(text):
    """``{stage: its lines}`` of a dvc.lock, or None where it is not laid out as DVC does."""
    if not text.startswith(HEADER):
        return None
    entries = {}
    for entry in ENTRY.split(text[len(HEADER) :])[1:]:
        name, colon, _ = entry.partition(":\n")
        if not colon or re.search(r"^\S", entry[len(name) + 2 :], re.MULTILINE) or name in entries:
            return None
        entries[name] = f"  {entry}"
    return entries if HEADER + "".join(entries.values()) == text else None


def join(entries):
    """The text of the dvc.lock with these entries."""
    return HEADER + "".join(entries.values())


def read(path="dvc.lock"):
    """``{stage: its lines}`` of the dvc.lock here, ``{}`` where there is none.

    UserError for one that DVC did not write: half merged, or edited.
    """
    try:
        with open(path, encoding="utf-8") as file:
            entries = split(file.read())
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        entries = None
    if entries is None:
        raise UserError(
            f"{path}: not as DVC writes it; in the middle of a merge: `mlegfn resolve`, else restore it from git"
        )
    return entries


def existing():
    """``read`` where there must be something recorded; UserError where there is no dvc.lock."""
    if not os.path.exists("dvc.lock"):
        raise UserError("dvc.lock: not found, so nothing is recorded; `make reproduce` first")
    return read()


def outputs(entry):
    """``{path: MD5}`` of the outputs in one entry's lines; a folder's MD5 ends in ``.dir``. UserError if broken."""
    return {path: record[0] for path, record in records(entry, "outs").items()}


def records(entry, kind):
    """``{path: (MD5, size in bytes)}`` of the ``outs`` or ``deps`` in one entry's lines."""
    import yaml

    try:
        (body,) = parse(entry).values()
        return {each["path"]: (each["md5"], each.get("size", 0)) for each in body.get(kind, ())}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        name = entry.strip().partition(":\n")[0]
        raise UserError(f"dvc.lock: the entry {name} is broken; restore dvc.lock from git") from None


def sort(path="dvc.lock"):
    """Order the entries by name: the order in which stages end is nobody's business."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return
    entries = split(text)
    if entries and list(entries) != sorted(entries):
        write_text(path, join(dict(sorted(entries.items()))))


class Entries(Mapping):
    """Stage → its entry, parsed when it is asked for."""

    def __init__(self, texts):
        self._texts, self._parsed = texts, {}

    def __getitem__(self, name):
        if name not in self._parsed:
            from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA as SCHEMA

            text = self._texts[name]  # a KeyError is this mapping's own
            try:
                self._parsed[name] = SCHEMA(parse(text)[name])
            except Exception as error:  # of the YAML reader, of the schema, of what neither foresees
                raise UserError(
                    f"dvc.lock: the entry {name} is broken ({' '.join(str(error).split())[:200]}); restore the "
                    "file from git, or delete the entry: then its stage runs again"
                ) from None
        return self._parsed[name]

    def __contains__(self, name):
        return name in self._texts

    def __iter__(self):
        return iter(self._texts)

    def __len__(self):
        return len(self._texts)


def install():
    """Make this process's DVC read and write dvc.lock by entries."""
    from dvc import dvcfile
    from dvc.dvcfile import Lockfile
    from dvc.stage import serialize
    from dvc.utils.serialize import dumps_yaml

    if getattr(Lockfile, "by_entries", False):
        return
    load, dump = Lockfile._load, Lockfile.dump_stages
    assert dvcfile.serialize is serialize

    def read(lockfile):
        try:
            with open(lockfile.path, encoding="utf-8") as file:
                return split(file.read())
        except (FileNotFoundError, UnicodeDecodeError):
            return None

    def load_entries(self, **kwargs):
        texts = None if kwargs else read(self)
        if texts is None:
            return load(self, **kwargs)
        return {"schema": "2.0", "stages": Entries(texts)}, ""

    def dump_entries(self, stages, **kwargs):
        texts = read(self)
        if texts is None:
            return dump(self, stages, **kwargs)
        for stage in stages:
            entry = dumps_yaml({"stages": serialize.to_lockfile(stage, **kwargs)})
            texts[stage.name] = entry.removeprefix("stages:\n")
        write_text(self.path, join(texts))
        self.repo.scm_context.track_file(self.relpath)

    _parse_once()
    _look_up()
    Lockfile._load, Lockfile.dump_stages, Lockfile.by_entries = load_entries, dump_entries, True


def _parse_once():
    """DVC reads params.yaml six times for one stage: let it parse each state of a file once, and none that the warm
    server has parsed."""
    from dvc.utils import serialize, strictyaml
    from dvc.utils.serialize import _yaml

    from mlegfn import yaml_file

    load, parse, parsed = serialize.LOADERS[".yaml"], _yaml.parse_yaml, {}

    def parse_yaml(text, path, typ="safe"):
        if typ == "safe":
            with contextlib.suppress(Exception), warnings.catch_warnings():  # DVC says what is wrong with it
                warnings.simplefilter("ignore")
                return yaml_file.load(text) or {}
        return parse(text, path, typ=typ)

    _yaml.parse_yaml = strictyaml.parse_yaml = parse_yaml

    def load_once(path, *args, **kwargs):
        if getattr(kwargs.get("fs"), "protocol", None) != "local":  # a git revision, say
            return load(path, *args, **kwargs)
        try:
            state = os.stat(path)
        except OSError:
            return load(path, *args, **kwargs)
        key = (path, state.st_mtime_ns, state.st_size, state.st_ino)
        if key not in parsed:
            parsed[key] = load(path, *args, **kwargs)
        return copy.deepcopy(parsed[key])

    serialize.LOADERS[".yaml"] = load_once


def _look_up():
    """DVC finds a setting by comparing its name with that of every value in params.yaml: go straight to it."""
    import dpath
    from dvc.dependency import param

    param.dpath = SimpleNamespace(get=functools.partial(look_up, dpath.get), search=dpath.search)


def look_up(search, settings, name, separator="."):
    """The value in nested mappings; by ``search`` where ``name`` is no plain row of their keys."""
    value = settings
    for part in name.split(separator):
        if not isinstance(value, dict) or part not in value:
            return search(settings, name, separator=separator)
        value = value[part]
    return value
