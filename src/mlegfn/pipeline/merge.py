"""`mlegfn resolve`: what two people's runs recorded, in the middle of a git merge, rebase or cherry-pick.

An entry of dvc.lock is a fact: with these settings, sources and inputs the stage made these outputs. A merge of its
lines would be a claim that nobody has checked, so .gitattributes keeps git from merging the lines of dvc.lock,
graph.json and results/, and entries are taken whole or not at all. Whether an entry is still true of the merged
settings is DVC's question, by content, as ever.
"""

import json
from pathlib import Path

from mlegfn import config, graph
from mlegfn.artifacts import write_bytes, write_text
from mlegfn.errors import UserError
from mlegfn.pipeline import hashes, lockfile
from mlegfn.pipeline.git import git
from mlegfn.pipeline.one_run import only_one

LOCK = "dvc.lock"
BASE, OURS, THEIRS = 1, 2, 3  # as git numbers the sides of a conflict


def resolve():
    """Resolve the conflicts in dvc.lock, graph.json and results/, and stage them; returns the exit code 0.

    UserError where there is no conflict, and while another file has one: that is for people to resolve, first.
    """
    with only_one("resolve"):
        conflicts = unmerged()
        if not conflicts:
            raise UserError("no conflict here; `mlegfn resolve` is for the middle of a git merge or rebase")
        for path in conflicts:
            if path not in (LOCK, graph.GRAPH) and not path.startswith("results/"):
                raise UserError(
                    f"{path}: resolve this conflict first, `git add` it, then `mlegfn resolve` again"
                )
        graph.write(config.load())
        if LOCK in conflicts:
            entries, dropped = merge(*(side(conflicts[LOCK], number) for number in (BASE, OURS, THEIRS)))
            write_text(LOCK, lockfile.join(dict(sorted(entries.items()))))
        else:
            entries, dropped = lockfile.read(), []
        recorded = {path: md5 for entry in entries.values() for path, md5 in lockfile.outputs(entry).items()}
        unsettled = [path for path, blobs in conflicts.items() if not settle(path, blobs, entries, recorded)]
        git("add", "--all", "--", LOCK, graph.GRAPH, *conflicts)
    print(f"dvc.lock: {len(entries)} entries, taken whole from the side that recorded them")
    for name in dropped:
        print(f"  {name}: recorded differently by both sides, so by neither; it runs again")
    if unsettled:
        print(
            f"{len(unsettled)} files of results/ that no entry vouches for are ours, until their stages run"
        )
    print("now: git commit (or git rebase --continue), then make restore, then make reproduce")
    return 0


def merge(base, ours, theirs):
    """(the entries of a three-way merge of ``{stage: lines}``, names of those dropped as both sides changed them)."""
    entries, dropped = {}, []
    for name in {**base, **ours, **theirs}:
        was, left, right = base.get(name), ours.get(name), theirs.get(name)
        if left == right or right == was:
            taken = left
        elif left == was:
            taken = right
        else:
            taken = None
            dropped.append(name)
        if taken is not None:
            entries[name] = taken
    return entries, sorted(dropped)


def settle(path, blobs, entries, recorded):
    """Give a file of results/ the content that the merged entries record; whether a side has that.

    Else ours stays, or theirs where we have none: DVC sees that it is not as recorded, or not recorded.
    """
    if not path.startswith("results/"):
        return True
    contents = [content(blobs[number]) for number in (OURS, THEIRS, BASE) if number in blobs]
    right = [each for each in contents if vouched_for(path, each, entries, recorded)]
    write_bytes(path, (right or contents)[0])
    return bool(right)


def vouched_for(path, content, entries, recorded):
    """Whether the merged dvc.lock records this content for the path, or what a provenance record says."""
    if path in recorded:
        return hashes.of_bytes(content) == recorded[path]
    parts = Path(path)
    if parts.parent.name == "provenance" and parts.stem in entries:
        try:
            return json.loads(content)["outputs"] == lockfile.outputs(entries[parts.stem])
        except (ValueError, KeyError, TypeError):
            return False
    return False


def unmerged():
    """``{path: {side: blob}}`` of the conflicts in git's index."""
    found = {}
    for line in filter(None, git("ls-files", "--unmerged", "-z", "--full-name").decode().split("\0")):
        about, path = line.split("\t", 1)
        _, blob, number = about.split()
        found.setdefault(path, {})[int(number)] = blob
    return found


def side(blobs, number):
    """The entries of one side's dvc.lock; none where that side has no such file."""
    if number not in blobs:
        return {}
    try:
        entries = lockfile.split(content(blobs[number]).decode())
    except UnicodeDecodeError:
        entries = None
    if entries is None:
        name = {BASE: "the common ancestor", OURS: "ours", THEIRS: "theirs"}[number]
        raise UserError(f"{LOCK}: {name} is not as DVC writes it; `git checkout --ours {LOCK}` drops theirs")
    return entries


def content(blob):
    """The bytes of a git object."""
    return git("cat-file", "blob", blob)
