"""Whether files are, byte for byte, what dvc.lock records.

DVC believes its notes: a file whose modification time, inode and size are as they were is not read again, and an
object of the cache that is read-only is never read again. A flipped bit changes none of these. So a stage reads
what other stages made for it once more before it uses it (``inputs``), and ``mlegfn verify`` reads everything.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from mlegfn.artifacts import read_json
from mlegfn.errors import UserError
from mlegfn.graph import names
from mlegfn.pipeline import engine, hashes, lockfile
from mlegfn.yaml_file import read_yaml

CACHE = Path(".dvc", "cache", "files", "md5")


@dataclass
class Difference:
    """A recorded output that is not as recorded. ``files``: which, of a folder those that differ, if known."""

    path: str
    stage: str
    recorded: str
    found: str | None  # None: nothing is there
    files: list[str]

    def __str__(self):
        if self.found is None:
            return f"{self.path}: missing, dvc.lock records {self.recorded} ({self.stage})"
        return (
            f"{self.named}: not what {self.stage} made (MD5 {self.found}, dvc.lock records {self.recorded})"
        )

    @property
    def named(self):
        """The path; of a folder, the files in it that differ, too."""
        where = ", ".join(self.files[:3]) + (", …" if len(self.files) > 3 else "")
        return where if self.files == [self.path] else f"{where} of {self.path}"


def inputs(name, scale_name):
    """Read what the stage ``name`` takes from other stages; what is not as these made it is a UserError.

    The error names the file, and DVC is made to look at it again, so that the next `make reproduce` mends it. What
    is not recorded yet, or not there at all, passes: the stage or DVC will say what is missing.
    """
    pipeline = engine.read(scale_name)
    read = [path for dep in pipeline.stages[name].deps for path in pipeline.expand(dep)]
    made = {path: pipeline.producers[path] for path in read if path in pipeline.producers}
    if not made:
        return
    entries = lockfile.read()
    differ = []
    for path, producer in made.items():
        if known := expected(path, producer, entries):
            found = difference(path, producer, known)
            if found and found.found:
                differ.append(found)
    if differ:
        for each in differ:
            look_again(each)
        others = [file for each in differ[1:] for file in each.files]
        more = f" (likewise {', '.join(others[:3])}{', …' if len(others) > 3 else ''})" if others else ""
        raise UserError(f"{differ[0]}{more}; it is not used, `make reproduce` makes it good again")


def expected(path, producer, entries):
    """The MD5s that ``path`` may have: the one in dvc.lock, and where DVC does not run the stages (`mlegfn plan`),
    that of the producer's last run, which nobody has recorded in dvc.lock. Empty if nothing is known."""
    entry = entries.get(producer)
    known = [lockfile.outputs(entry).get(path)] if entry else []
    if "DVC_STAGE" not in os.environ:  # DVC sets it for the commands that it runs
        last = Path("results", producer_scale(path), "provenance", f"{producer}.json")
        known = [*known, read_json(last).get("outputs", {}).get(path)] if last.is_file() else []
    return [md5 for md5 in known if md5]


def producer_scale(path):
    """The scale whose folder an output lies in: ``data/digits/…``, ``results/digits/…``."""
    return Path(path).parts[1]


def difference(path, stage, known):
    """The Difference of a path from the MD5s that it may have (the first is shown), None if there is none."""
    try:
        found = hashes.md5(path)
    except FileNotFoundError:
        return Difference(path, stage, known[0], None, [path])
    if found in known:
        return None
    return Difference(path, stage, known[0], found, differing(path, known[0]))


def differing(path, recorded):
    """The files of a folder that differ, as far as there is a sound list of them; else the path itself."""
    listed = listing(recorded) if recorded.endswith(".dir") and Path(path).is_dir() else {}
    if not listed:
        return [path]
    there = {entry["relpath"]: entry["md5"] for entry in json.loads(hashes.listing(path))}
    wrong = [name for name in sorted({*listed, *there}) if listed.get(name) != there.get(name)]
    return [str(Path(path, name)) for name in wrong] or [path]


def listing(recorded):
    """``{path inside: MD5}`` of a folder by its MD5, from DVC's cache; ``{}`` if that has no sound one."""
    object = CACHE / recorded[:2] / recorded[2:]
    try:
        content = object.read_bytes()
    except OSError:
        return {}
    if f"{hashes.of_bytes(content)}.dir" != recorded:
        return {}
    return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}


def listed(path, recorded):
    """``listing``, or where the cache has none, that of the workspace if it is as recorded."""
    if found := listing(recorded):
        return found
    content = hashes.listing(path) if Path(path).is_dir() else b"[]"
    sound = f"{hashes.of_bytes(content)}.dir" == recorded
    return {entry["relpath"]: entry["md5"] for entry in json.loads(content)} if sound else {}


def look_again(difference):
    """Touch what differs: DVC reads a file again whose modification time has changed."""
    for file in difference.files:
        for each in Path(file).rglob("*") if Path(file).is_dir() else [Path(file)]:
            with contextlib.suppress(OSError):  # not ours to touch, or gone
                os.utime(each)


def recorded(scale_name=None):
    """``{path: (stage, MD5)}`` of every output that dvc.lock records, for one scale or for all."""
    found = {}
    for stage, entry in lockfile.read().items():
        for path, md5 in lockfile.outputs(entry).items():
            if scale_name in (None, producer_scale(path)):
                found[path] = stage, md5
    return found


def in_git():
    """The outputs that lie in git, not in DVC's cache (``cache: false`` in dvc.yaml)."""
    graph, definitions = engine.load_graph(), read_yaml("dvc.yaml")["stages"]
    found = set()
    for name in names(graph):
        kind, key = name.split("@")
        outs = engine.declared_outs(definitions[kind]["do"])
        outs = engine.fill_in(outs, {"key": key, "item": graph[kind][key]})
        found |= {
            path for out in outs if isinstance(out, dict) for path, how in out.items() if not how["cache"]
        }
    return found


def objects(scale_name=None):
    """``{MD5: path}`` of what DVC's cache should have: each cached output, and each file of those that are folders.

    The files of a folder whose list is neither in the cache nor in the workspace are unknown.
    """
    tracked, found = in_git(), {}
    for path, (_, md5) in recorded(scale_name).items():
        if path not in tracked:
            found.setdefault(md5, path)
            if md5.endswith(".dir"):
                for name, each in listed(path, md5).items():
                    found.setdefault(each, str(Path(path, name)))
    return found


def differences(scale_name=None):
    """A Difference for every recorded output that is not as recorded, by content."""
    checked = (difference(path, stage, [md5]) for path, (stage, md5) in recorded(scale_name).items())
    return [each for each in checked if each]
