"""Sharing recorded artifacts through DVC's remote, and deleting one scale's."""

import shutil
import subprocess
import sys
from pathlib import Path

from mlegfn import config, graph
from mlegfn.errors import UserError

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
    "provenance",
    "logs",
    "scratch",
)


def command(*arguments):
    """Run a command; (exit code, what it printed)."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout.strip()


def remote():
    """The default DVC remote's name; none is a UserError."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        name = repo.config["core"].get("remote")
    if not name:
        raise UserError(
            ".dvc/config: no remote to share results through; "
            "add one: `dvc remote add --default NAME PATH-OR-URL`"
        )
    return name


def dvc(*arguments):
    """Run DVC here, with its own output; a failure is a UserError that repeats its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], stderr=subprocess.PIPE, text=True, errors="replace"
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"dvc {arguments[0]}: {last.removeprefix('ERROR: ')}")


def restore():
    """Fetch everything that dvc.lock records into the workspace and verify it; returns the exit code.

    Nothing has to be touched afterwards: the Snakefile goes by DVC's word, not by modification times.
    """
    remote()
    if not Path("dvc.lock").exists():
        raise UserError("dvc.lock: not found, so nothing is recorded to restore; `make reproduce` makes it")
    dvc("pull", "--allow-missing")
    from mlegfn.pipeline import engine

    pipeline = engine.ask_dvc()
    recorded = [stage for stage in pipeline.stages.values() if "new" not in stage.changes.values()]
    differ = [stage for stage in recorded if stage.changes]
    print(f"restored: {len(recorded) - len(differ)} of {len(recorded)} recorded stages are as recorded")
    for stage in differ:
        print(f"  {stage.name}: {', '.join(f'{what} ({how})' for what, how in stage.changes.items())}")
    if differ:
        raise UserError("some stages differ from dvc.lock; `make reproduce` runs them again")
    return 0


def record():
    """Push everything that dvc.lock records; everything must be committed and up to date."""
    from mlegfn.pipeline import lockfile

    name = remote()
    graph.check(config.load())
    lockfile.sort()
    code, changed = command("git", "status", "--porcelain")
    if code:
        raise UserError(f"git status: {changed.splitlines()[-1]}")
    if changed:
        first = changed.splitlines()[0][3:]
        raise UserError(
            f"{first}: not committed ({len(changed.splitlines())} such path(s)); commit first, "
            "so that what is shared belongs to a commit"
        )
    dvc("push", "--remote", name)
    print(f"recorded: everything that dvc.lock names is at the remote {name!r}")
    return 0


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
