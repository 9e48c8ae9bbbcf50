"""`mlegfn resolve`: what two people's runs recorded, in the middle of a git merge, rebase or cherry-pick.

An entry of dvc.lock says: with these settings, sources and inputs the stage made these outputs. A merge of its lines would
be a statement that nobody has checked, so .gitattributes keeps git from merging the lines of dvc.lock and results/, and
entries are taken whole or not at all, as the text that DVC wrote. Whether one is true of the merged settings, DVC decides.
"""

import re
import subprocess
from pathlib import Path

from mlegfn.artifacts import write_bytes
from mlegfn.errors import UserError
from reproduction.workflow.run_lock import only_one

__all__ = ["merge", "resolve"]

LOCK, HEAD = "dvc.lock", "schema: '2.0'\nstages:\n"
BASE, OURS, THEIRS = 1, 2, 3  # as git numbers the sides of a conflict


def resolve():
    """Resolve the conflicts in dvc.lock and results/, and stage them; returns the exit code 0.

    UserError where there is no conflict, and while another file has one: that is for people to resolve first.
    """
    with only_one("resolve"):
        conflicts = unmerged()
        if not conflicts:
            raise UserError("no conflict here; `mlegfn resolve` is for the middle of a git merge or rebase")
        for path in conflicts:
            if path != LOCK and not path.startswith("results/"):
                raise UserError(f"{path}: resolve this conflict first, `git add` it, then run this again")
        ours, dropped = entries(f"HEAD:{LOCK}"), []
        if LOCK in conflicts:
            base, other = (entries(conflicts[LOCK].get(side)) for side in (BASE, THEIRS))
            merged, dropped = merge(base, ours, other)
            write_bytes(LOCK, (HEAD + "".join(merged.values())).encode())
        else:
            merged = entries(f":{LOCK}")
        theirs = {name: entry for name, entry in merged.items() if entry != ours.get(name)}
        for path, sides in conflicts.items():
            if path != LOCK:
                take(path, sides.get(THEIRS if belongs(path, theirs) else OURS))
        git("add", "--all", "--", *conflicts)
    for name in dropped:
        print(f"{name}: recorded differently by both sides, so by neither; it runs again")
    print("dvc.lock: entries taken whole from the side that recorded them")
    print("now: git commit (or git rebase --continue), then make restore, then make reproduce")
    return 0


def merge(base, ours, theirs):
    """(the entries of a three-way merge of {stage: entry}, the names of those that both sides changed and nobody keeps)."""
    merged, dropped = {}, []
    for name in dict.fromkeys([*ours, *theirs, *base]):
        was, left, right = base.get(name), ours.get(name), theirs.get(name)
        taken = left if right in (left, was) else right if left == was else None
        if taken is not None:
            merged[name] = taken
        elif left != right and was not in (left, right):
            dropped.append(name)
    return merged, dropped


def belongs(path, stages):
    """Whether a file is of an output of one of ``stages`` {name: entry}, or its provenance or parts beside them."""
    if record := re.fullmatch(r"results/[^/]+/[^/]+/(?:provenance|parts)/(.+)\.json", path):
        return record[1] in stages
    lists = [entry.partition("\n    outs:\n")[2] for entry in stages.values()]
    outputs = [output for text in lists for output in re.findall(r"^    - path: (.+)$", text, re.M)]
    return any(path == output or path.startswith(f"{output}/") for output in outputs)


def take(path, blob):
    """Put one side's version of a file into place; None deletes it, as that side did."""
    if blob is None:
        Path(path).unlink(missing_ok=True)
    else:
        write_bytes(path, git("cat-file", "blob", blob))


def entries(blob):
    """{stage: its lines} of one side's dvc.lock, which git calls ``blob``; none where that side has no such file."""
    try:
        text = git("cat-file", "blob", blob).decode() if blob else ""
    except UserError:
        return {}
    if text and not text.startswith(HEAD):
        raise UserError(
            f"{LOCK}: one side is not as DVC writes it; `git checkout --ours {LOCK}` drops theirs"
        )
    return dict(re.findall(r"^(?=  (\S+):\n)(  .+\n(?:    .*\n)*)", text.removeprefix(HEAD), re.M))


def unmerged():
    """{path: {side: blob}} of the conflicts in git's index."""
    found = {}
    for line in filter(None, git("ls-files", "--unmerged", "-z", "--full-name").decode().split("\0")):
        about, path = line.split("\t", 1)
        _, blob, side = about.split()
        found.setdefault(path, {})[int(side)] = blob
    return found


def git(*arguments):
    """What git prints, as bytes; a failure is a UserError with its last line."""
    done = subprocess.run(["git", *arguments], capture_output=True)
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise UserError(f"git {arguments[0]}: {last.removeprefix('fatal: ')}")
    return done.stdout
