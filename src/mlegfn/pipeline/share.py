"""Sharing recorded artifacts through DVC's remote, and deleting one scale's."""

import shutil
import subprocess
from pathlib import Path

from mlegfn import config, graph
from mlegfn.errors import UserError
from mlegfn.pipeline import dvc_content, engine, hashes, lockfile, mend, remotes, verify
from mlegfn.pipeline.one_run import only_one

# What lies in git, not in DVC's cache: `clean` deletes it from the checkout, git keeps it.
KINDS = (
    "checkpoints",
    "metrics",
    "samples",
    "families",
    "discrete",
    "divergences",
    "figures",
    "tables",
    "report",
    "logs",
    "scratch",
)


def command(*arguments):
    """Run a command; (exit code, what it printed)."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout.rstrip()


def restore(scale_name=None):
    """Fetch what dvc.lock records into the workspace and read every byte of it; returns the exit code 0.

    Nothing has to be touched afterwards: the Snakefile goes by DVC's word, not by modification times. What the
    remote lacks or has damaged is a UserError that names it, after everything else has been restored.
    """
    with only_one("restore"), mend.careful_dvc() as repo:
        remote = remotes.default(repo)
        recorded = verify.recorded(scale_name)
        if not recorded:
            raise UserError("dvc.lock: records nothing to restore; `make reproduce` makes it")
        refuse_to_replace(repo, recorded)
        remotes.check(remote)
        stages = sorted({stage for stage, _ in recorded.values()} & set(graph.names(engine.load_graph())))
        problem = fetch(repo, remote, stages)
        differ = deliver(repo, scale_name, stages)
        if problem or differ:
            raise problem or UserError(
                f"{differ[0]} ({len(differ)} such); `git checkout` or `make reproduce` mends it"
            )
        pipeline = engine.ask_dvc(scale_name)
    stale = [name for name in stages if name in pipeline.stale]
    print(f"restored: {len(recorded)} outputs of {len(stages)} recorded stages, every byte read")
    for name in stale:
        print(
            f"  {name}: {', '.join(f'{what} ({how})' for what, how in pipeline.stages[name].changes.items())}"
        )
    if stale:
        print(
            f"{len(stale)} of {len(stages)} stages have other settings or code here; `make reproduce` runs them"
        )
    return 0


def refuse_to_replace(repo, recorded):
    """Files that somebody changed and nobody recorded are not overwritten: UserError."""
    tracked = verify.in_git()
    for path, (stage, md5) in recorded.items():
        if path in tracked:
            continue
        found = verify.difference(path, stage, [md5])
        if found and found.found:
            verify.look_again(found)
            unknown = [f for f in found.files if Path(f).is_file() and not mend.in_cache(repo, hashes.md5(f))]
            if unknown:
                raise UserError(
                    f"{found}; it would be replaced, and no cache has it: delete it first, if nobody needs it"
                )


def fetch(repo, remote, stages):
    """Bring what the stages made into the cache; a UserError, not raised, if something is missing or damaged."""
    from dvc.exceptions import DvcException

    try:
        repo.fetch(targets=stages, remote=remote.name)
    except (DvcException, AssertionError, OSError) as error:  # DVC asserts that every folder's list is there
        if not dvc_content.DAMAGED:
            return remotes.explained(remote, error)
    if dvc_content.DAMAGED:
        more = f" ({len(dvc_content.DAMAGED)} such)" if len(dvc_content.DAMAGED) > 1 else ""
        return UserError(
            f"remote {remote.name!r}: {dvc_content.DAMAGED[0]}{more}; it is not used: "
            "`make reproduce` makes it here, `mlegfn verify --remote --mend` where it is sound sends it again"
        )
    return None


def deliver(repo, scale_name, stages):
    """Check the outputs out of the cache, as far as it has them whole; what differs from dvc.lock after that."""
    tracked = verify.in_git()
    names = set(stages)
    recorded = {p: m for p, (s, m) in verify.recorded(scale_name).items() if p not in tracked and s in names}
    whole = [path for path, md5 in recorded.items() if mend.complete(repo, md5)]
    if whole:
        repo.checkout(targets=whole, force=True, allow_missing=True)
    return [each for each in verify.differences(scale_name) if each.stage in names]


def record(scale_name=None):
    """Push everything that dvc.lock records; it must be committed, up to date and sound. Returns 0."""
    with only_one("record"), mend.careful_dvc() as repo:
        remote = remotes.default(repo)
        graph.check(config.load())
        lockfile.read()
        lockfile.sort()
        all_committed()
        stages = up_to_date(scale_name)
        remotes.check(remote, writing=True)
        objects = verify.objects(scale_name)
        with mend.remote_errors(remote):
            repo.push(targets=stages, remote=remote.name)
        # DVC takes a folder for whole where its list is there, so each object is asked for.
        if lacking := remotes.missing(remote, objects):
            remotes.upload(remote, repo.cache.local, lacking)
            lacking = remotes.missing(remote, lacking)
        if lacking:
            raise UserError(
                f"{objects[lacking[0]]}: not at the remote {remote.name!r} after the push; try again"
            )
    print(
        f"recorded: {len(objects)} objects of {len(stages)} stages are at the remote {remote.name!r}; now: git push"
    )
    return 0


def all_committed():
    """UserError where git knows of a change that is not committed."""
    code, changed = command("git", "status", "--porcelain")
    if code:
        raise UserError(f"git status: {changed.splitlines()[-1]}")
    if changed:
        first = changed.splitlines()[0][3:]
        raise UserError(
            f"{first}: not committed ({len(changed.splitlines())} such path(s)); commit first, "
            "so that what is shared belongs to a commit"
        )


def up_to_date(scale_name):
    """The names of the recorded stages; a scale of which some are recorded and others stale is a UserError."""
    known = set(lockfile.read())
    items = engine.load_graph()
    if scale_name is not None:
        config.load().scale(scale_name)
    scales = (
        [scale_name] if scale_name else sorted({i["scale"] for kind in items.values() for i in kind.values()})
    )
    stages = []
    for scale in scales:
        names = graph.names(items, scale)
        if not known & set(names):
            if scale_name:
                raise UserError(f"{scale}: nothing of it is recorded; make reproduce SCALE={scale}")
            continue
        stale = [stage for stage in engine.ask_dvc(scale).stages.values() if stage.changes]
        if stale:
            what, how = next(iter(stale[0].changes.items()))
            raise UserError(
                f"{stale[0].name}: {what} ({how}), and {len(stale) - 1} more of {len(names)} stages are not as "
                f"recorded; first: make reproduce SCALE={scale} (or share another scale: mlegfn record --scale NAME)"
            )
        stages += names
    if not stages:
        raise UserError("dvc.lock: records nothing to share; `make reproduce` first")
    return stages


def clean(scale_name):
    """Delete one scale's data and results from the checkout; DVC's cache and git keep what they have."""
    if not graph.is_scale_name(scale_name):
        raise UserError(f"{scale_name!r}: not the name of a scale; `mlegfn clean-scale --scale digits`")
    removed = []
    for path in (Path("data", scale_name), *(Path("results", scale_name, kind) for kind in KINDS)):
        if path.is_symlink():
            raise UserError(f"{path}: a symbolic link; remove it by hand if you mean it")
        if path.exists():
            shutil.rmtree(path)
            removed.append(str(path))
    folder = Path("results", scale_name)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    print("\n".join(f"removed {path}" for path in removed) or f"{scale_name}: nothing to remove")
    return 0
