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
    "gallery",
    "figures",
    "tables",
    "report",
    "provenance",
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
        tracked = verify.in_git()
        cached = {path: md5 for path, (_, md5) in recorded.items() if path not in tracked}
        refuse_to_replace(repo, cached)
        remotes.check(remote)
        remotes.fetch(remote, repo.cache.local, cached.values())
        for path, md5 in cached.items():
            if mend.complete(repo, md5):
                mend.check_out(repo, path, md5)
        if differ := verify.differences(scale_name):
            raise not_restored(remote, differ, verify.objects(scale_name))
        pipeline = engine.ask_dvc(scale_name)
    stages = {stage for stage, _ in recorded.values()} & set(pipeline.stages)
    stale = [stage for stage in pipeline.stages.values() if stage.changes and stage.name in stages]
    print(f"restored: {len(recorded)} outputs of {len(stages)} recorded stages, every byte read")
    for stage in stale:
        print(f"  {stage.name}: {', '.join(f'{what} ({how})' for what, how in stage.changes.items())}")
    if stale:
        print(f"{len(stale)} of them have other settings or code here; `make reproduce` runs them again")
    return 0


def refuse_to_replace(repo, cached):
    """Files that somebody changed and nobody recorded are not overwritten: UserError."""
    for path, md5 in cached.items():
        found = verify.difference(path, "its stage", [md5])
        if found and found.found:
            files = [file for file in found.files if Path(file).is_file()]
            if any(not mend.in_cache(repo, hashes.md5(file)) for file in files):
                raise UserError(
                    f"{found}; restoring would replace it, and DVC's cache has no copy: if nobody needs it, "
                    "delete it and restore again"
                )


def not_restored(remote, differ, objects):
    """The UserError about what is not as dvc.lock records it after a restore."""
    more = f" (and {len(differ) - 1} more outputs)" if len(differ) > 1 else ""
    if dvc_content.DAMAGED:
        return UserError(
            f"remote {remote.name!r}: {dvc_content.DAMAGED[0]}{more}; it is not used. `make reproduce` makes it; "
            "whoever has it sound sends it again: `mlegfn verify --remote --mend`"
        )
    if differ[0].path in objects.values():
        return UserError(
            f"{differ[0].path}{more}: the remote {remote.name!r} lacks it; whoever has run {differ[0].stage}: "
            "`make record`. Or here: `make reproduce`"
        )
    return UserError(f"{differ[0]}{more}; `git checkout -- {differ[0].path}`, or `make reproduce`")


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
        remotes.send(remote, repo.cache.local, objects)
        if lacking := remotes.missing(remote, objects):
            raise UserError(
                f"{objects[lacking[0]]}: not at the remote {remote.name!r} after it was sent; try again"
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
