"""`mlegfn verify`, and making good again what is damaged: from the cache, from git, from the remote."""

import os
from contextlib import contextmanager, nullcontext

from mlegfn.artifacts import write_bytes
from mlegfn.errors import UserError
from mlegfn.pipeline import dvc_content, hashes, lockfile, remotes, verify
from mlegfn.pipeline.git import quietly
from mlegfn.pipeline.one_run import only_one


@contextmanager
def careful_dvc():
    """A DVC repository that believes no modification time and no read-only bit."""
    from dvc.repo import Repo

    lockfile.install()
    dvc_content.install()
    with dvc_content.by_content(), Repo(".", _wait_for_lock=True) as repo:
        yield repo


def examine(scale_name=None, remote=False, mend=False):
    """Read everything that dvc.lock records; prints what is damaged; returns 0, or raises UserError.

    ``remote``: what the remote has of it, too. ``mend``: make good what can be, without running anything.
    """
    recorded = verify.recorded(scale_name)
    if not recorded:
        raise UserError("dvc.lock: records nothing to verify; `make reproduce` does")
    with only_one("verify") if mend else nullcontext(), careful_dvc() as repo:
        there = remotes.default(repo) if remote else None
        if remote:
            remotes.check(there)
        wrong = verify.differences(scale_name)
        if mend:
            wrong = [each for each in wrong if not mended(repo, each, there)]
        bad = [f"{each}" for each in wrong]
        for each in wrong:
            verify.look_again(each)
        objects = verify.objects(scale_name)
        lacking = [oid for oid in objects if not in_cache(repo, oid)]
        if mend:
            lacking = [oid for oid in lacking if not refilled(repo, oid)]
        bad += [f"{objects[oid]}: its object {oid} is not in DVC's cache" for oid in lacking]
        if remote:
            bad += at_remote(repo, there, objects, mend)
    for line in bad:
        print(line)
    print(f"verified: {len(recorded)} recorded outputs, {len(objects)} objects of the cache", end="")
    print(f", the same at the remote {there.name!r}" if remote else "")
    if bad or (dvc_content.DAMAGED and not mend):
        hint = (
            "`make reproduce` runs again what is not"
            if mend
            else "`mlegfn verify --mend` makes good what can be"
        )
        raise UserError(f"{len(bad) or len(dvc_content.DAMAGED)} not as recorded; {hint}")
    return 0


def at_remote(repo, remote, objects, mend):
    """A line for each object that the remote lacks or has damaged; ``mend``: sound ones are sent again first."""
    lacks = dict.fromkeys(remotes.missing(remote, objects), "is not there")
    spoiled = remotes.damaged(remote, [oid for oid in objects if oid not in lacks])
    lacks |= {oid: f"is damaged (MD5 {found})" for oid, found in spoiled.items()}
    if mend:
        sendable = [oid for oid in lacks if in_cache(repo, oid)]
        remotes.upload(remote, repo.cache.local, sendable)
        for oid in sendable:
            print(f"{objects[oid]}: sent to the remote again")
            del lacks[oid]
    return [f"{objects[oid]}: its object {oid} at {remote.name!r} {how}" for oid, how in lacks.items()]


def in_cache(repo, oid):
    """Whether DVC's cache has this object, sound."""
    from dvc_objects.errors import ObjectFormatError

    try:
        repo.cache.local.check(oid)
    except (FileNotFoundError, ObjectFormatError):
        return False
    return True


def refilled(repo, oid):
    """Whether an object that the cache lacks could be made from the workspace."""
    content = dvc_content.from_workspace(oid)
    if content is not None:
        write_bytes(repo.cache.local.oid_to_path(oid), content)
    return content is not None and in_cache(repo, oid)


def mended(repo, difference, remote=None):
    """Whether an output is as recorded again: from git, from the cache, or from ``remote`` through the cache.

    Nothing is replaced unless the recorded content is at hand.
    """
    path, recorded = difference.path, difference.recorded
    verify.look_again(difference)
    if not recorded.endswith(".dir") and (content := from_git(path, recorded)) is not None:
        write_bytes(path, content)
    else:
        if remote and path not in verify.in_git():
            remotes.fetch(remote, repo.cache.local, [recorded])
        if not complete(repo, recorded):
            return False
        check_out(repo, path, recorded)
    return verify.difference(path, difference.stage, [recorded]) is None


def complete(repo, recorded):
    """Whether the cache has, sound, an object and for a folder all that it lists."""
    inside = verify.listing(recorded) if recorded.endswith(".dir") else {}
    return in_cache(repo, recorded) and all(in_cache(repo, oid) for oid in {*inside.values()})


def check_out(repo, path, recorded):
    """Make a file or folder of the workspace what the cache has for it, which must be there whole."""
    from dvc_data.hashfile import load
    from dvc_data.hashfile.checkout import checkout
    from dvc_data.hashfile.hash_info import HashInfo

    content = load(repo.cache.local, HashInfo("md5", recorded))
    where = os.path.abspath(path)
    checkout(
        where,
        repo.fs,
        content,
        repo.cache.local,
        force=True,
        ignore=repo.dvcignore,
        state=repo.state,
    )


def from_git(path, recorded):
    """A file's content by git, if that is the recorded one: what is staged, or the last commit's."""
    for revision in ("", "HEAD"):
        shown = quietly("show", f"{revision}:./{path}")
        if shown is not None and hashes.of_bytes(shown) == recorded:
            return shown
    return None


def before_running(pipeline):
    """Make good again outputs whose stages need not run for it, as only artifacts differ, no setting or source.

    Prints what it mended and returns whether there was anything.
    """

    def artifact(key):
        return all(path in pipeline.producers for path in pipeline.expand(key))

    damaged = [
        stage
        for stage in pipeline.stages.values()
        if set(stage.changes) & set(stage.outs) and all(map(artifact, stage.changes))
    ]
    recorded = verify.recorded() if damaged else {}
    damaged = [stage for stage in damaged if all(out in recorded for out in stage.outs)]
    done = False
    if damaged:
        with careful_dvc() as repo:
            for stage in damaged:
                wrong = [verify.difference(path, stage.name, [recorded[path][1]]) for path in stage.outs]
                wrong = [each for each in wrong if each]
                if all(mended(repo, each) for each in wrong) and not cache_lacks(repo, stage, recorded):
                    for each in wrong:
                        was = "missing" if each.found is None else "altered"
                        print(f"{each.named}: was {was}, is as recorded again")
                    done = True
    return done


def cache_lacks(repo, stage, recorded):
    """Whether the cache still lacks something of a stage's outputs after what it lacked was made again."""
    tracked = verify.in_git()
    needed = set()
    for path in stage.outs:
        if path not in tracked:
            needed |= {recorded[path][1], *verify.listed(path, recorded[path][1]).values()}
    return any(not in_cache(repo, oid) and not refilled(repo, oid) for oid in needed)
