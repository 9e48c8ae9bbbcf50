"""The DVC remote: which one, whether it can be reached, what it has, and its errors in one line."""

import os
from concurrent.futures import ThreadPoolExecutor

from mlegfn.errors import UserError
from mlegfn.pipeline import hashes

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


def upload(remote, cache, oids):
    """Put objects of the cache to the remote, over what is there."""
    try:
        for oid in oids:
            remote.fs.put_file(cache.oid_to_path(oid), remote.odb.oid_to_path(oid))
    except Exception as error:
        raise explained(remote, error) from None
