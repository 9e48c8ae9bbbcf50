"""The DVC remote: which one, whether it can be reached, what it has, and its errors in one line."""

import os
from concurrent.futures import ThreadPoolExecutor

from mlegfn.errors import UserError
from mlegfn.pipeline import hashes, verify

# What an exception's class says. DVC, s3fs, botocore and asyncssh have no common ones.
WHY = {
    "NoCredentialsError": "no credentials",
    "PartialCredentialsError": "incomplete credentials",
    "ProfileNotFound": "no such AWS profile",
    "AuthError": "the credentials are refused",
    "PermissionError": "the credentials are refused, or lack a right",
    "PermissionDenied": "the credentials are refused",
    "HostKeyNotVerifiable": "the host key is unknown; connect once by `ssh` and check it",
    "FileNotFoundError": "no such bucket or folder",
    "RemoteMissingDepsError": "DVC lacks the package for this kind of remote",
}
HELP = "docs/sharing.md tells how to set it up"


def default(repo):
    """The default remote of a DVC repository; none, or a broken one, is a UserError."""
    from dvc.exceptions import DvcException

    name = repo.config["core"].get("remote")
    if not name:
        raise UserError(
            ".dvc/config: no remote to share results through; "
            "add one: `dvc remote add --default NAME PATH-OR-URL` (docs/sharing.md)"
        )
    try:
        return repo.cloud.get_remote(name)
    except DvcException as error:
        raise UserError(f"remote {name!r}: {one_line(error)}; {HELP}") from None


def check(remote, writing=False):
    """UserError unless the remote answers, lets us in, and has the bucket or folder."""
    fs, path = remote.fs, remote.path
    try:
        if fs.protocol == "local":
            there = os.path.isdir(
                os.path.dirname(path) if writing else path
            )  # DVC makes the last part itself
            if not there or not os.access(path if os.path.isdir(path) else os.path.dirname(path), os.R_OK):
                raise FileNotFoundError(path)
        elif fs.protocol == "s3":
            fs.fs.info(path.partition("/")[0])
        elif not fs.exists(path) and not writing:
            raise FileNotFoundError(path)
    except Exception as error:  # whatever the library of this kind of remote raises
        raise explained(remote, error) from None


def explained(remote, error):
    """The UserError behind an exception on the way to a remote."""
    where = f"remote {remote.name!r} ({remote.fs.unstrip_protocol(remote.path)})"
    seen = error
    while seen is not None:
        for kind in type(seen).__mro__:
            if kind.__name__ in WHY:
                return UserError(f"{where}: {WHY[kind.__name__]}; {HELP}")
        seen = seen.__cause__ or seen.__context__
    return UserError(f"{where}: not reachable ({one_line(error)}); {HELP}")


def one_line(error):
    """An exception's text without line breaks, or its class where it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def missing(remote, oids):
    """Those of ``oids`` that the remote does not have; asked of each, not concluded from a folder's list."""
    oids = list(oids)
    try:
        there = set(remote.odb.list_oids_exists(oids)) if oids else set()
    except Exception as error:
        raise explained(remote, error) from None
    return [oid for oid in oids if oid not in there]


def damaged(remote, oids):
    """``{oid: MD5 found}`` of those of ``oids`` that are there with another content; reads every byte."""

    def read(oid):
        with remote.fs.open(remote.odb.oid_to_path(oid), "rb") as file:
            return oid, hashes.of_stream(file)

    try:
        with ThreadPoolExecutor(4) as pool:
            return {oid: found for oid, found in pool.map(read, oids) if found != oid.removesuffix(".dir")}
    except Exception as error:
        raise explained(remote, error) from None


def fetch(remote, cache, recorded):
    """Bring the objects of outputs, given by their MD5s, into the cache as far as the remote has them, sound.

    First the lists of folders, then what they list. What does not come is for the caller to find out.
    """
    lists = [oid for oid in recorded if oid.endswith(".dir")]
    transfer(remote, remote.odb, cache, lists)
    inside = {oid for each in lists for oid in verify.listing(each).values()}
    transfer(remote, remote.odb, cache, {*recorded, *inside} - {*lists})


def send(remote, cache, oids):
    """Put objects of the cache to the remote where it lacks them: files before the folders that list them."""
    lists = [oid for oid in oids if oid.endswith(".dir")]
    transfer(remote, cache, remote.odb, {*oids} - {*lists})
    transfer(remote, cache, remote.odb, lists)


def transfer(remote, source, target, oids):
    """DVC's own transfer between two stores, one by one, without the lists that it keeps of what is where."""
    from dvc.fs.callbacks import TqdmCallback
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.transfer import transfer

    infos = [HashInfo("md5", oid) for oid in oids]
    try:
        with TqdmCallback(desc=f"{remote.name}", unit="file") as progress:
            failed = transfer(source, target, infos, cache_odb=source, callback=progress).failed
    except Exception as error:
        raise explained(remote, error) from None
    if failed:
        raise UserError(
            f"remote {remote.name!r}: {len(failed)} objects could not be transferred; run it again"
        )


def upload(remote, cache, oids):
    """Put objects of the cache to the remote, over what is there."""
    try:
        for oid in oids:
            remote.fs.put_file(cache.oid_to_path(oid), remote.odb.oid_to_path(oid))
    except Exception as error:
        raise explained(remote, error) from None
