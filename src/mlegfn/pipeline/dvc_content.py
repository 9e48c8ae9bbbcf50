"""What makes this process's DVC read an object before it believes it.

DVC 3 takes a read-only object in its cache for sound, keeps what a remote delivered damaged (unless the remote says
``verify``), and lists the contents of a folder by an object whose own hash it does not check. ``install`` closes
these three: an object whose content does not have the MD5 that it is named by is put aside, and made again where
the workspace has the content; else it counts as not there, so that DVC fetches it or runs its stage again.
``by_content`` makes DVC read the workspace, too, instead of believing modification times.
"""

import contextlib
import os
import re
import sys
from pathlib import Path

from mlegfn.artifacts import write_bytes
from mlegfn.pipeline import hashes, verify

DAMAGED = []  # what was found in this process, a line each
OID = re.compile(r"[0-9a-f]{32}(\.dir)?")
_SOUND = set()  # the objects that this process has read, as they were then


def install():
    """Make this process's DVC check the objects of its cache, and those that it is sent, by content."""
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree
    from dvc_data.index import checkout
    from dvc_objects.errors import ObjectFormatError
    from dvc_objects.fs.local import localfs

    if getattr(LocalHashFileDB, "by_content", False):
        return
    add, load, check_dvc = LocalHashFileDB.add, Tree.load.__func__, LocalHashFileDB.check

    def check(odb, oid, check_hash=True, _info=None):
        if not check_hash or odb.hash_name != "md5":
            return check_dvc(odb, oid, check_hash, _info)
        path = odb.oid_to_path(oid)
        if state_of(path) not in _SOUND:
            found = hashes.md5(path)
            # A remote that is a folder is such a store, too; only remotes are told where to keep an index.
            if found != oid.removesuffix(".dir") and not put_aside(
                path, oid, found, mend=odb.tmp_dir is None
            ):
                raise ObjectFormatError(f"{path} is damaged")
            if not odb.is_protected(path):
                odb.protect(path)
            _SOUND.add(state_of(path))
        return Meta(size=os.path.getsize(path))

    def add_checked(odb, *args, **kwargs):
        return add(odb, *args, **{**kwargs, "verify": True})

    def load_checked(cls, odb, hash_info, hash_name=None):
        tree = odb.get(hash_info.value)
        if odb.hash_name == "md5" and tree.fs.protocol != "memory":
            with tree.fs.open(tree.path, "rb") as file:
                found = hashes.of_stream(file)
            if found != hash_info.value.removesuffix(".dir"):
                if tree.fs.protocol != "local":
                    say(tree.fs.unstrip_protocol(tree.path), hash_info.value, found)
                elif put_aside(tree.path, hash_info.value, found, mend=odb.tmp_dir is None):
                    return load(cls, odb, hash_info, hash_name)
                raise ObjectFormatError(f"{tree.path} is damaged")
        return load(cls, odb, hash_info, hash_name)

    def transfer_checked(from_fs, from_paths, to_fs, to_paths, on_error=None, **kwargs):
        """From the cache into the workspace, in `dvc checkout` and `dvc pull`; an object is read before."""
        pairs = []
        for source, target in zip(from_paths, to_paths, strict=True):
            oid = "".join(source.rsplit(os.sep, 2)[1:])
            try:
                if from_fs.protocol == "local" and OID.fullmatch(oid):
                    check(store(source), oid)
                pairs.append((source, target))
            except (ObjectFormatError, FileNotFoundError) as error:
                on_error(source, target, error)
        if pairs:
            sources, targets = map(list, zip(*pairs, strict=True))
            transfer(from_fs, sources, to_fs, targets, on_error=on_error, **kwargs)

    def store(source):
        return LocalHashFileDB(localfs, source.rsplit(os.sep, 2)[0])

    transfer, checkout.transfer = checkout.transfer, transfer_checked
    LocalHashFileDB.check, LocalHashFileDB.add = check, add_checked
    Tree.load = classmethod(load_checked)
    LocalHashFileDB.by_content = True


def state_of(path):
    """What tells one state of a file from another, as far as that goes without reading it."""
    state = os.stat(path)
    return path, state.st_ino, state.st_mtime_ns, state.st_size


def say(where, oid, found, done=""):
    """Tell the user of a damaged object, once."""
    names = " and ".join(sorted(artifacts(oid))[:2]) or "nothing that dvc.lock records"
    line = f"{where}: damaged (MD5 {found}); it holds {names}{done}"
    if line not in DAMAGED:
        DAMAGED.append(line)
        print(f"mlegfn: {line}", file=sys.stderr)


def put_aside(path, oid, found, mend):
    """Move a damaged object to ``damaged/`` in its cache; whether a sound one is in its place again.

    ``mend``: make it from the workspace, where that has the content.
    """
    path = Path(path)
    aside = path.parents[3] / "damaged" / oid
    try:
        aside.parent.mkdir(exist_ok=True)
        os.replace(path, aside)
        done = f"; put aside as {os.path.relpath(aside)}"
    except OSError as error:  # somebody else's: DVC does not get it, that is enough
        done = f"; it could not be put aside ({error.strerror})"
    content = from_workspace(oid) if mend else None
    if content is not None:
        write_bytes(path, content)
        os.chmod(path, 0o444)
        done += ", made again from the workspace"
    say(os.path.relpath(path), oid, found, done)
    return content is not None


def from_workspace(oid):
    """The content of an object, if a file or folder of the workspace has it; else None."""
    for name in artifacts(oid):
        with contextlib.suppress(OSError):
            if oid.endswith(".dir"):
                if hashes.md5(name) == oid:
                    return hashes.listing(name)
            elif hashes.md5(name) == oid:
                return Path(name).read_bytes()
    return None


def artifacts(oid):
    """The paths for which dvc.lock records this object, files inside of folders among them."""
    found = []
    for path, (_, md5) in verify.recorded().items():
        if md5 == oid:
            found.append(path)
        elif md5.endswith(".dir") and not oid.endswith(".dir"):
            found += [str(Path(path, name)) for name, each in verify.listed(path, md5).items() if each == oid]
    return found


@contextlib.contextmanager
def by_content():
    """Meanwhile DVC reads every file of the workspace instead of remembering what it read there before."""
    from dvc_data.hashfile.state import State

    get, get_many = State.get, State.get_many
    State.get = lambda *_, **__: (None, None)
    State.get_many = lambda _, items, *__, **___: ((path, None, None) for path in items)
    try:
        yield
    finally:
        State.get, State.get_many = get, get_many
