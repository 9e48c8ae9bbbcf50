"""Sharing recorded artifacts through DVC's remote, reading them byte by byte, and deleting one scale's."""

import json
import shutil
import subprocess
from pathlib import Path

from mlegfn.errors import UserError
from reproduction import hashes
from reproduction import params as settings
from reproduction.stage import recorded_outputs
from reproduction.workflow import dvc
from reproduction.workflow.run_lock import only_one

__all__ = ["clean", "record", "restore", "verify"]

MENDING = "delete what differs, then `make reproduce` takes it from DVC's cache or makes it again"


def recorded(scale=None):
    """{path: (stage, MD5)} of what dvc.lock records, of one scale or of all; nothing is a UserError."""
    if scale is not None:
        settings.load().check_scale(scale)
    found = {
        path: (stage, md5)
        for path, (stage, md5) in recorded_outputs().items()
        if scale in (None, dvc.scale_of(stage))
    }
    if not found:
        what = f"{scale}: nothing of it is" if scale else "nothing is"
        raise UserError(
            f"{what} recorded in dvc.lock; `make reproduce{f' SCALE={scale}' if scale else ''}` makes it"
        )
    return found


def by_scale(outputs):
    """{scale: its part} of recorded outputs."""
    found = {}
    for path, (stage, md5) in outputs.items():
        found.setdefault(dvc.scale_of(stage), {})[path] = stage, md5
    return found


def say_left(what, left):
    """A line for each scale {scale: why} that a command for all scales has left out."""
    for scale, why in left.items():
        print(f"{what}: {scale}: {why}")


def restore(scale=None):
    """Fetch what dvc.lock records from the remote into the checkout, and read every byte of it; returns 0.

    `dvc pull` refuses to replace a file that somebody changed and nobody recorded.
    """
    with only_one("restore"):
        dvc.repair()
        whole = by_scale(recorded(scale))
        remote()
        outputs, left = {}, {}
        for each, found in whole.items():
            try:
                dvc.run_dvc("pull", *sorted({stage for stage, _ in found.values()}))
                outputs |= found
            except UserError as error:
                left[each] = error
        if not outputs:
            raise next(iter(left.values()))
        refuse_differences(outputs)
        say_left("not restored", left)
    stages = {stage for stage, _ in outputs.values()}
    print(f"restored: {len(outputs)} outputs of {len(stages)} recorded stages, every byte read")
    return 0


def record(scale=None):
    """Push what dvc.lock records to the remote; it must be committed, up to date and sound. Returns 0."""
    with only_one("record"):
        whole = by_scale(recorded(scale))
        name = remote()
        all_committed()
        outputs, left = {}, {}
        for each, found in whole.items():
            plan, made = dvc.make_plan(each), {stage for stage, _ in found.values()}
            if known := [stage for stage in plan.stale if stage in made]:
                left[each] = UserError(
                    f"{known[0]}: {plan.why(known[0])}; {len(known)} recorded stage(s) are stale; first: "
                    f"make reproduce SCALE={each}"
                )
            elif not any(Path(path).exists() for path in found):
                left[each] = UserError("nothing of it is in this checkout; make restore fetches it")
            else:
                outputs |= found
        if not outputs:
            raise next(iter(left.values()))
        refuse_differences(outputs)
        say_left("not recorded", left)
        stages = sorted({stage for stage, _ in outputs.values()})
        dvc.run_dvc("push", *stages)
    print(
        f"recorded: {len(outputs)} outputs of {len(stages)} stages are at the remote {name!r}; now: git push"
    )
    return 0


def verify(scale=None):
    """Read every recorded artifact; returns 0 if each is what dvc.lock records, else 1, and says which are not.

    Without ``scale``, scales of which no large artifact has been fetched are named, and only what git brought is read.

    DVC believes its notes: it does not read a file again whose modification time, inode and size are as they were, so a
    flipped bit escapes it.
    """
    outputs, left = recorded(scale), {}
    for each, found in by_scale(outputs).items() if scale is None else ():
        if absent := [path for path in found if not Path(path).exists()]:
            left[each] = (
                f"{len(absent)} of {len(found)} outputs are not here; make restore SCALE={each} fetches them"
            )
            outputs = {path: known for path, known in outputs.items() if path not in absent}
    say_left("not fetched", left)
    differing = differences(outputs)
    drop_damaged({outputs[path][1] for path in differing})
    print("\n".join([*differing.values(), *([MENDING] if differing else [])]), end="\n" if differing else "")
    print(
        f"{len(outputs) - len(differing)} of {len(outputs)} recorded outputs are as recorded, every byte read"
    )
    return 1 if differing else 0


def differences(outputs):
    """{path: a line that says how} of each recorded output that is missing or differs."""
    found = {}
    for path, (stage, md5) in outputs.items():
        if not Path(path).exists():
            found[path] = f"{path}: missing ({stage})"
        elif (now := hashes.md5(path)) != md5:
            found[path] = f"{path}: not what {stage} made (MD5 {now}, dvc.lock records {md5})"
    return found


def refuse_differences(outputs):
    """A UserError that names what is not as recorded."""
    if differing := differences(outputs):
        drop_damaged({outputs[path][1] for path in differing})
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        raise UserError(f"{next(iter(differing.values()))}{more}; {MENDING}")


def drop_damaged(md5s):
    """Delete what DVC's cache holds of these outputs under the MD5 of another content: DVC would put it into place again."""
    if not md5s:
        return
    cache = Path(dvc.run_dvc("cache", "dir").strip(), "files", "md5")
    waiting = list(md5s)
    while waiting:
        md5 = waiting.pop()
        path = cache / md5[:2] / md5[2:]
        if path.is_file() and hashes.md5(path) != md5.removesuffix(".dir"):
            path.unlink()
        elif path.is_file() and md5.endswith(".dir"):
            waiting += [entry["md5"] for entry in json.loads(path.read_text())]


def remote():
    """The name of DVC's default remote; none is a UserError."""
    found = subprocess.run(
        ["dvc", "config", "core.remote"], capture_output=True, text=True, env=dvc.environment()
    )
    if not found.stdout.strip():
        raise UserError(
            "no DVC remote, so nothing is shared; `dvc remote add --default NAME PATH-OR-URL` adds one (docs/sharing.md)"
        )
    return found.stdout.strip()


def all_committed():
    """UserError where git knows of a change that is not committed."""
    done = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git status: {(done.stderr.splitlines() or ['failed'])[-1]}")
    if changed := done.stdout.splitlines():
        raise UserError(
            f"{changed[0][3:]}: not committed ({len(changed)} such path(s)); commit first, "
            "so that what is shared belongs to a commit"
        )


def clean(scale):
    """Delete one scale's data and results from the checkout; DVC's cache and git keep what they have."""
    settings.load().check_scale(scale)
    removed = []
    for path in (Path("data", scale), Path("results", scale)):
        if path.is_symlink():
            raise UserError(f"{path}: a symbolic link; remove it by hand if you mean it")
        if path.exists():
            shutil.rmtree(path)
            removed.append(str(path))
    print("\n".join(f"removed {path}" for path in removed) or f"{scale}: nothing to remove")
    return 0
