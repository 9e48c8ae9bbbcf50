"""One bit of one byte flipped in a data file, a checkpoint, an object of DVC's cache or one at the remote."""

import os
import re
import shutil
import subprocess

from faults.checkouts import differing

# What is flipped → what is done then. Every way must notice before a stage computes with the byte.
WAYS = {
    "data": ("stage", "reproduce", "verify"),
    "checkpoint": ("stage", "reproduce", "verify"),
    "cache": ("reproduce", "restore", "dvc checkout", "verify"),
    "remote": ("restore", "dvc pull"),
}


def flip(context, index, draw):
    """Flip, do one of the ways, put everything back. See ``judged`` for what must hold."""
    where = list(WAYS)[index % len(WAYS)]
    way = WAYS[where][index // len(WAYS) % len(WAYS[where])]
    base = ready(context)
    artifact, path, names = target(base, where, draw)
    consumer, command = draw.choice(consumers(base, artifact))
    keep = draw.random() < 0.5
    record = {"where": where, "way": way, "mtime_kept": keep, "file": names[0]}
    record["offset"] = spoil(path, draw, keep)
    if where in ("cache", "remote"):
        gone(base.root / artifact)
    if where == "remote":
        shutil.rmtree(base.root / ".dvc/cache")
    if way == "reproduce" and where != "cache":
        base.forget([consumer])
    before = base.manifest()
    code, said = act(base, way, artifact, command)
    record |= judged(base, way, code, said, names, before, artifact)
    if not record["ok"]:
        record["said"] = said[-1500:]
    mend(context, base)
    return record


def ready(context):
    """A finished checkout whose artifacts are at a directory remote, too, and whose DVC has seen every file."""
    base = getattr(context, "flipped", None)
    if base is None:
        shutil.rmtree(context.folder / "flipped", ignore_errors=True)
        base = context.flipped = context.finished.duplicate(context.folder / "flipped")
        base.environment["MLEGFN_WARM"] = warm(context)
        keep_smoke(base)
        remote = base.folder / "remote"
        for arguments in (("remote", "add", "--local", "--default", "shelf", remote), ("push", "-q")):
            code, said, _ = base.run(base.tool("mlegfn"), "dvc", *arguments)
            if code:
                raise RuntimeError(f"dvc {arguments[0]}: {said}")
        shutil.copytree(remote, base.folder / "remote-at-first")
        looked(base)
        base.at_first, base.lock = base.manifest(), (base.root / "dvc.lock").read_text()
    return base


def keep_smoke(base):
    """Drop the other scales from dvc.lock: their artifacts are not here, so `restore` would miss them."""
    head = (base.root / "dvc.lock").read_text().split("  ", 1)[0]
    (base.root / "dvc.lock").write_text(head + "".join(f"  {entry}" for entry in base.recorded().values()))


def looked(base):
    """Let DVC see every file, so that it takes one with the same time, size and place for unchanged."""
    code, said, _ = base.run(base.tool("mlegfn"), "reproduce", "--scale", "smoke")
    if code or "nothing to do" not in said:
        raise RuntimeError(f"the copy is not finished: {said}")


def mend(context, base):
    """Put back what a flip and its way have changed."""
    pairs = [
        (context.finished.root / name, base.root / name) for name in ("data", "results/smoke", ".dvc/cache")
    ]
    changed = [same(*pair) for pair in (*pairs, (base.folder / "remote-at-first", base.folder / "remote"))]
    (base.root / "dvc.lock").write_text(base.lock)
    if any(changed):
        looked(base)


def same(source, target):
    """Make ``target`` the folder that ``source`` is; logs are nobody's business. Whether anything differed."""

    def files(top):
        return {p.relative_to(top): p for p in top.rglob("*") if p.is_file() and "logs" not in p.parts}

    wanted, found, changed = files(source), files(target), False
    for name, path in found.items():
        if name not in wanted:
            changed = True
            path.unlink()
    for name, path in wanted.items():
        if name not in found or found[name].read_bytes() != path.read_bytes():
            changed = True
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).unlink(missing_ok=True)
            shutil.copy2(path, target / name)
    return changed


def warm(context):
    """The socket of a server that imports torch once for all flips; nothing of a flip is the server's."""
    if not getattr(context, "server", None):
        context.socket = context.folder / "warm"
        context.socket.unlink(missing_ok=True)
        context.server = subprocess.Popen(
            [context.venv / "bin/mlegfn", "warm", context.socket], env=context.finished.environment
        )
    return str(context.socket)


def target(base, where, draw):
    """(artifact, the file to flip, names by which a message may call it)."""
    artifacts = [out for out in cached(base) if out.startswith("data/") == (where == "data")]
    if where in ("cache", "remote"):
        artifacts = cached(base)
    artifact = draw.choice([out for out in artifacts if consumers(base, out)])
    root = base.root / artifact
    files = sorted(
        p for p in ([root] if root.is_file() else root.rglob("*")) if p.is_file() and p.stat().st_size
    )
    file = draw.choice(files)
    name = str(file.relative_to(base.root))
    if where in ("data", "checkpoint"):
        return artifact, file, [name]
    from mlegfn.pipeline.hashes import md5

    digest = md5(root) if root.is_dir() and draw.random() < 0.2 else md5(file)
    store = base.root / ".dvc/cache" if where == "cache" else base.folder / "remote"
    path = store / "files/md5" / digest[:2] / digest[2:]
    names = [f"{digest[:2]}/{digest[2:]}", digest]
    return artifact, path, [*names, artifact if digest.endswith(".dir") else name]


def section(entry, name):
    """The paths in one section of an entry of dvc.lock."""
    match = re.search(rf"^    {name}:\n((?:    [- ].*\n)*)", entry, re.MULTILINE)
    return re.findall(r"^    - path: (.+)$", match[1], re.MULTILINE) if match else []


def cached(base):
    """The artifacts that lie in DVC's cache."""
    outs = [out for entry in base.recorded().values() for out in section(entry, "outs")]
    tracked = subprocess.run(
        ["git", "check-ignore", *outs], cwd=base.root, capture_output=True, text=True
    ).stdout.splitlines()
    return sorted(tracked)


def consumers(base, artifact):
    """[(stage, command)] that read an artifact."""
    return [
        (name, re.search(r"^    cmd: (.+)$", entry, re.MULTILINE)[1].split())
        for name, entry in base.recorded().items()
        if any(dep == artifact or dep.startswith(f"{artifact}/") for dep in section(entry, "deps"))
    ]


def spoil(path, draw, keep):
    """Flip a random bit of a random byte in place; its offset."""
    state, offset = path.stat(), draw.randrange(path.stat().st_size)
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << draw.randrange(8)]))
    os.chmod(path, state.st_mode)
    if keep:
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return offset


def gone(path):
    """Delete a file or folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def act(base, way, artifact, command):
    """(exit code, output) of a way; DVC's own commands are followed by a stage that reads the artifact."""
    mlegfn, stage = base.tool("mlegfn"), [base.tool("mlegfn"), *command[1:]]
    if way in ("dvc checkout", "dvc pull"):
        code, said, _ = base.run(base.tool("dvc"), *way.split()[1:], "--force", artifact)
        if code:
            return code, said
        code, more, _ = base.run(*stage)
        return code, said + more
    arguments = {
        "stage": stage,
        "reproduce": [mlegfn, "reproduce", "--scale", "smoke"],
        "verify": [mlegfn, "verify"],
        "restore": [mlegfn, "restore"],
    }[way]
    code, said, _ = base.run(*arguments)
    return code, said


def judged(base, way, code, said, names, before, artifact):
    """The outcome of a way in one word, and whether it may be so.

    refused: it ended with code 2, named the file and made nothing. mended: it ended well, named the file, and
    every artifact is the undisturbed run's. not used: DVC had the folder's list elsewhere and never read the damaged
    one, and every artifact is right. silently mended: without a word. Anything else is a failure.
    """
    named = any(name in said for name in names)
    made = [path for path in differing(base.manifest(), before) if not path.startswith("git status")]
    if way in (
        "dvc checkout",
        "dvc pull",
    ):  # DVC itself puts the artifact there, whatever it is; the stage must not use it
        made = [path for path in made if path != artifact and not path.startswith(f"{artifact}/")]
    right = not differing(base.manifest(), base.at_first)
    if code == 0 and right and way in ("reproduce", "restore"):
        outcome = "mended" if named else "silently mended"
    elif code == 0 and right and way in ("dvc checkout", "dvc pull"):
        outcome = "not used"
    elif code == 0:
        outcome = "not noticed"
    elif "Traceback" in said or "invalid choice" in said:
        outcome = "no such way" if "invalid choice" in said else "traceback"
    elif not named:
        outcome = "refused without naming it"
    else:
        outcome = "refused" if not made or way == "restore" else "refused, but wrote"
    return {
        "outcome": outcome,
        "code": code,
        "made": made[:10],
        "ok": outcome in ("refused", "mended", "not used"),
    }
