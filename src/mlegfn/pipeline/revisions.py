"""What git holds of a scale's metrics, tables, figures and reports at a revision, and what lies in the checkout."""

from dataclasses import dataclass
from pathlib import Path

from mlegfn import graph
from mlegfn.errors import UserError
from mlegfn.pipeline.git import git

KINDS = ("metrics", "tables", "figures", "report")


@dataclass
class Revision:
    """``files``: {path: the id of its content in git}; ``title``: which revision it is, in a line."""

    title: str
    files: dict[str, str]
    commit: str | None  # None: the checkout as it is

    def read(self, paths):
        """{path: bytes} of those of ``paths`` that are there."""
        there = [path for path in paths if path in self.files]
        if self.commit is None:
            return {path: Path(path).read_bytes() for path in there}
        return dict(zip(there, blobs([self.files[path] for path in there]), strict=True))


def at(scale, name=None):
    """The Revision ``name`` of a scale (None: the checkout); one that git does not know, or at which the scale has no
    results, is a UserError."""
    if not graph.is_scale_name(scale):
        raise UserError(f"{scale!r}: not the name of a scale; `--scale digits`")
    found = here(scale) if name is None else committed(scale, name)
    if not found.files:
        where = "here" if name is None else f"at {name}"
        raise UserError(
            f"results/{scale}: no metrics, tables or figures {where}; name another scale or revision"
        )
    return found


def here(scale):
    """The checkout as it is."""
    paths = [str(p) for kind in KINDS for p in sorted(Path("results", scale, kind).rglob("*")) if p.is_file()]
    listed = git("hash-object", "--no-filters", "--stdin-paths", stdin="\n".join(paths).encode())
    return Revision("the checkout as it is", dict(zip(paths, listed.decode().split(), strict=True)), None)


def committed(scale, name):
    """What the commit ``name`` holds."""
    try:
        commit = (
            git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").decode().strip()
        )
    except UserError:
        git("rev-parse", "--git-dir")  # says so where there is no git at all
        raise UserError(f"{name}: git knows no such revision; `git log --oneline` lists them") from None
    folders = [f"results/{scale}/{kind}" for kind in KINDS]
    files = {}
    for entry in git("ls-tree", "-r", "-z", commit, "--", *folders).decode().split("\0"):
        head, _, path = entry.partition("\t")
        if path:
            files[path] = head.split()[2]
    title = git("log", "-1", "--format=%h  %cs  %s", commit).decode().strip()
    return Revision(title if title.startswith(name) else f"{name}: {title}", files, commit)


def blobs(ids):
    """The contents that git has under these ids, as bytes, in one call."""
    out, contents, at = git("cat-file", "--batch", stdin="".join(f"{i}\n" for i in ids).encode()), [], 0
    for _ in ids:
        end = out.index(b"\n", at)
        size = int(out[at:end].split()[2])
        contents.append(out[end + 1 : end + 1 + size])
        at = end + size + 2
    return contents
