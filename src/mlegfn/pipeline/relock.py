"""`mlegfn relock`: new hashes in dvc.lock for source files that were edited and are the same programs.

DVC goes by bytes. Whoever mends a comment in a file that a training reads would have DVC run hours of stages that
give the same bytes again. What counts as the same program stands in ``pipeline.program``.
"""

import hashlib
import re
from collections import defaultdict
from pathlib import Path

from mlegfn.artifacts import write_text
from mlegfn.errors import UserError
from mlegfn.pipeline import hashes, introspection, lockfile, program
from mlegfn.pipeline.git import git, quietly

SOURCE = "src/"
# Modules that every stage runs through; what they ask about programs, they may ask of any.
PLUMBING = "src/mlegfn/*.py"
DEPENDENCIES = re.compile(r"^    deps:\n((?:    [- ] .*\n)+)", re.MULTILINE)
DEPENDENCY = re.compile(r"^    - path: (.+)\n((?:      .*\n)+)", re.MULTILINE)
FIELD = re.compile(r"^      (md5|size|nfiles): (.+)$", re.MULTILINE)


def relock(revision="HEAD"):
    """Update dvc.lock where the sources now and at ``revision``, when they were recorded, are the same programs.

    An entry is updated as a whole or not at all; the stages whose entries are not, and why, are printed.
    Returns 0; UserError where some stay stale, after the others are written.
    """
    from dvc.repo import Repo

    from mlegfn import config, graph
    from mlegfn.pipeline import engine

    graph.check(config.load())
    declared = {name: stage.deps for name, stage in engine.read().stages.items()}
    versions = Versions(revision)
    with Repo(".", _wait_for_lock=True) as repo, repo.lock:
        entries = lockfile.existing()
        done, reasons = {}, defaultdict(list)
        for name, entry in entries.items():
            try:
                text = updated(entry, versions, declared.get(name))
            except Differs as difference:
                reasons[str(difference)].append(name)
            else:
                if text != entry:
                    done[name] = text
        if done:
            write_text("dvc.lock", lockfile.join({**entries, **done}))
    for reason, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        print(f"stale  {names[0]}{more}: {reason}")
    stale = sum(map(len, reasons.values()))
    if not done and not stale:
        print("dvc.lock: every source is as recorded")
    else:
        print(
            f"dvc.lock: {len(done)} of {len(done) + stale} stages whose sources were edited are as recorded again"
        )
    if stale:
        raise UserError(
            f"dvc.lock: {stale} stages stay stale, as said above; run them again, or name the commit that recorded them"
        )
    return 0


class Differs(Exception):
    """An entry's dependency is not what it was, as a program."""


def updated(entry, versions, declared=None):
    """An entry's text with the hashes of its sources as they are now; raises Differs if one is another program.

    ``declared``: the dependencies that dvc.yaml names, None where it has no such stage (any longer); the others
    are nothing that DVC would ask for.
    """
    section = DEPENDENCIES.search(entry)
    if section is None:
        return entry
    found = {path: dict(FIELD.findall(fields)) for path, fields in DEPENDENCY.findall(section[1])}
    found = {path: fields for path, fields in found.items() if declared is None or path in declared}
    sources = [path for path in found if path.startswith(SOURCE)]
    changed = [path for path in sources if versions.now(path) != found[path].get("md5")]
    if not changed:
        return entry
    for path in found:
        if path in versions.tracked and path not in sources and versions.now(path) != found[path].get("md5"):
            raise Differs(f"{path}: differs, and is no source code")
    keep = versions.reads(sources)
    for path in changed:
        versions.compare(path, found[path].get("md5"), keep)

    def renew(match):
        path, fields = match[1], match[2]
        if path not in changed:
            return match[0]
        new = {"md5": versions.now(path), **versions.measures(path)}
        return f"    - path: {path}\n" + FIELD.sub(lambda f: f"      {f[1]}: {new[f[1]]}", fields)

    return entry[: section.start(1)] + DEPENDENCY.sub(renew, section[1]) + entry[section.end(1) :]


class Versions:
    """Sources in the checkout and at a git revision, each read and compared once."""

    def __init__(self, revision):
        found = quietly("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        if found is None:
            raise UserError(f"{revision}: git knows no such commit; `git log --oneline` lists them")
        self.revision = found.decode().strip()
        self.name = revision
        self.tracked = set(git("ls-files", "-z").decode().split("\0"))
        self._now, self._files, self._then, self._reads, self._same = {}, {}, {}, {}, {}

    def now(self, path):
        """A dependency's hash, None where there is nothing."""
        if path not in self._now:
            self._now[path] = hashes.md5(path) if Path(path).exists() else None
        return self._now[path]

    def files(self, path):
        """{path in the folder, "" for a file: content} of a dependency in the checkout."""
        if path not in self._files:
            self._files[path] = {
                relative: Path(path, relative).read_bytes() for relative in sorted(hashes.files(path))
            }
        return self._files[path]

    def then(self, path):
        """The same at the revision; empty where it has no such path."""
        if path not in self._then:
            listed = git("ls-tree", "-r", "-z", self.revision, "--", path).decode().split("\0")[:-1]
            names = {line.partition("\t")[2]: line.split()[2] for line in listed}
            self._then[path] = {
                name[len(path) + 1 :]: git("cat-file", "blob", blob)
                for name, blob in names.items()
                if name == path or not hashes.left_out(name[len(path) + 1 :])
            }
        return self._then[path]

    def measures(self, path):
        """The size and number of files of a dependency, as dvc.lock has them."""
        files = self.files(path)
        return {"size": sum(map(len, files.values())), "nfiles": len(files)}

    def reads(self, sources):
        """What the programs of an entry, before or after, ask about programs."""
        found = set()
        for path in (*sources, *map(str, Path().glob(PLUMBING))):
            if path not in self._reads:
                both = [*self.files(path).items()] if self.now(path) else []
                if path in sources and self.now(path) is not None:
                    both += self.then(path).items()
                self._reads[path] = set()
                for content in {content for name, content in both if (name or path).endswith(".py")}:
                    try:
                        self._reads[path] |= introspection.reads(content)
                    except (SyntaxError, ValueError):
                        continue  # ``compare`` says so, if it is what was edited
            found |= self._reads[path]
        return frozenset(found)

    def compare(self, path, recorded, keep):
        """Raise Differs unless ``path``, recorded with that hash, is the same program now."""
        key = (path, recorded, keep)
        if key not in self._same:
            self._same[key] = self._compare(*key)
        if self._same[key]:
            raise Differs(self._same[key])

    def _compare(self, path, recorded, keep):
        then = self.then(path)
        if not then or digest(then) != recorded:
            return f"{path}: recorded in another version than that of {self.name}"
        if self.now(path) is None:
            return f"{path}: not found"
        now = self.files(path)
        for relative in sorted({*then, *now}):
            name = f"{path}/{relative}" if relative else path
            if relative not in now:
                return f"{name}: not found"
            if relative not in then:
                return f"{name}: a new file"
            if then[relative] != now[relative]:
                if not name.endswith(".py"):
                    return f"{name}: differs, and is no source code"
                try:
                    how = program.difference(then[relative], now[relative], keep)
                except (SyntaxError, ValueError) as error:
                    return f"{name}: not Python ({error})"
                if how:
                    return f"{name}:{how}"
        return None


def digest(files):
    """The hash in dvc.lock of a dependency with these files."""
    if set(files) == {""}:
        return hashlib.md5(files[""]).hexdigest()
    return hashes.folder({name: hashlib.md5(content).hexdigest() for name, content in files.items()})
