"""`mlegfn bundle`: what git tracks at a commit, its results among it, as one archive to deposit.

Equal commits give equal bytes: the files are git's own, in the order of their names, with one date and one mode,
uncompressed (zlib's output differs between its builds), and nothing in it says when or where it was made.
"""

import hashlib
import io
import os
import tarfile
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mlegfn import config, graph
from mlegfn.errors import UserError
from mlegfn.pipeline import hashes
from mlegfn.pipeline.git import git

METADATA, SUMS = "ro-crate-metadata.json", "SHA256SUMS"
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say
CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file of the archive: its ``content`` in memory, or else read from ``path`` in the workspace."""

    path: str
    size: int
    sha256: str
    executable: bool = False
    content: bytes | None = None

    @classmethod
    def of_bytes(cls, path, content, executable=False):
        return cls(path, len(content), hashlib.sha256(content).hexdigest(), executable, content)

    @classmethod
    def of_file(cls, path):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path, os.path.getsize(path), digest)


def bundle(out=None, with_checkpoints=False):
    """Write the archive of this checkout's commit to ``out`` and print where; returns the exit code.

    ``out``: default build/mlegfn-VERSION-COMMIT.zip. A UserError where something is not committed, a recorded
    result is stale, or a checkpoint that is asked for is not as recorded; then no archive is written.
    """
    from mlegfn.pipeline import crate
    from mlegfn.pipeline.fresh import fresh_results
    from mlegfn.report import summary

    if out and Path(out).is_dir():
        raise UserError(f"{out}: a folder; give the archive's name")
    commit = clean_commit()
    graph.check(config.load())
    members = tracked_files()
    recorded = fresh_results(members)
    if summary.SUMMARY not in members or members[summary.SUMMARY].content != summary.render().encode():
        raise UserError(f"{summary.SUMMARY}: not what the results say; run `make reproduce` and commit it")
    if with_checkpoints:
        members |= checkpoints(recorded, members)
    version = project_version(members)
    for reserved in (METADATA, SUMS):
        if reserved in members:
            raise UserError(f"{reserved}: tracked by git, but the bundle makes it; `git rm` it")
    members[METADATA] = Member.of_bytes(METADATA, crate.metadata(members, recorded, commit, version))
    members[SUMS] = Member.of_bytes(SUMS, sums(members))
    name = f"mlegfn-{version}-{commit['hash'][:12]}{'-checkpoints' if with_checkpoints else ''}.zip"
    out = Path(out or Path("build", name))
    write(out, members)
    print(f"{out}: {len(members)} files, {out.stat().st_size / 2**20:.1f} MiB, of commit {commit['hash']}")
    print(f"sha256 {Member.of_file(out).sha256}")
    return 0


def project_version(members):
    """The version in pyproject.toml."""
    try:
        return tomllib.loads(members["pyproject.toml"].content.decode())["project"]["version"]
    except (KeyError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise UserError(
            "pyproject.toml: no project.version to name the bundle by; restore it from git"
        ) from None


def clean_commit():
    """``{"hash", "date"}`` of HEAD; anything that is not committed is a UserError."""
    changed = [entry for entry in git("status", "--porcelain", "-z").decode().split("\0") if entry]
    if changed:
        raise UserError(
            f"{changed[0][3:]}: not committed ({len(changed)} such path(s)); commit or remove it first, "
            "so that the bundle is of one commit"
        )
    found, date = git("show", "--no-patch", "--format=%H %cI", "HEAD").decode().split()
    return {"hash": found, "date": date}


def tracked_files():
    """``{path: Member}`` of HEAD, as git has them."""
    members = {}
    with tarfile.open(fileobj=io.BytesIO(git("archive", "--format=tar", "HEAD"))) as archive:
        for entry in archive:
            if entry.isfile():
                content = archive.extractfile(entry).read()
                members[entry.name] = Member.of_bytes(entry.name, content, bool(entry.mode & 0o100))
            elif not entry.isdir():
                raise UserError(f"{entry.name}: neither a file nor a folder; a bundle holds no links")
    return members


def checkpoints(recorded, members):
    """``{path: Member}`` of every recorded output that is not in git; one that is not as recorded is a UserError."""
    found = {}
    for name, entry in recorded.items():
        for out in entry.get("outs", ()):
            path = Path(out["path"])
            if out["path"] in members or path.parts[0] != "results":
                continue
            if not path.exists():
                raise UserError(f"{path}: not found ({name} made it); `make restore` fetches it")
            md5 = hashes.md5(path)
            if md5 != out["md5"]:
                raise UserError(f"{path}: altered (MD5 {md5}, dvc.lock has {out['md5']}); `make restore`")
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in files:
                if file.is_file() and not hashes.ignored(file.name):
                    found[file.as_posix()] = Member.of_file(file.as_posix())
    return found


def sums(members):
    """The text that `sha256sum -c` reads, of every member."""
    return "".join(f"{members[path].sha256}  {path}\n" for path in sorted(members)).encode()


def write(out, members):
    """Write the members as a zip to ``out``, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for path in sorted(members):
                    add(archive, members[path])
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def add(archive, member):
    """Append one member; a file that changed since it was hashed is a UserError."""
    entry = zipfile.ZipInfo(member.path, DATE)
    entry.create_system = 3  # Unix, whatever this machine is: the modes count
    entry.external_attr = (0o100755 if member.executable else 0o100644) << 16
    entry.file_size = member.size
    if member.content is not None:
        archive.writestr(entry, member.content)
        return
    digest = hashlib.sha256()
    with archive.open(entry, "w") as target, open(member.path, "rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            target.write(chunk)
    if digest.hexdigest() != member.sha256:
        raise UserError(f"{member.path}: changed while it was bundled; run again")
