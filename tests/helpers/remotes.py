"""Remotes of the tests: an S3 server and an SSH server of this machine and of one test; a bit that flips."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


def flip(path):
    """Flip one bit in the middle of a file and leave all that DVC looks at as it was: times, size, mode, inode."""
    state = os.stat(path)
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 1
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.write(content)
    os.chmod(path, state.st_mode)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@contextlib.contextmanager
def s3():
    """The address of an S3 server with a bucket `results`."""
    import boto3
    import requests
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        # Moto keeps buckets, and whether it asks for credentials, for all servers of a process.
        requests.post(f"{address}/moto-api/reset", timeout=60)
        requests.post(f"{address}/moto-api/reset-auth", data=b"inf", timeout=60)
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket="results")
        yield address
    finally:
        server.stop()


def set_up_s3(toy, address):
    """What the commands of docs/sharing.md write; the address of a server that is not Amazon's is one line more."""
    add_remote(
        toy,
        "s3://results/mlegfn",
        endpointurl=address,
        **{name.lower()[4:]: key for name, key in KEYS.items()},
    )


@contextlib.contextmanager
def ssh(folder):
    """(address, home): an SSH server of this user's; a home folder that knows its key and has one of its own."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        assert not os.environ.get("CI"), "sshd is not installed: apt install openssh-server"
        pytest.skip("sshd is not installed: apt install openssh-server")
    home = folder / "home" / ".ssh"
    home.mkdir(parents=True, mode=0o700)
    for key in (folder / "host", home / "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {home}/id_ed25519.pub\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\n"
    )
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of root locks itself in
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([program, "-D", "-e", "-f", folder / "config"], stderr=log)
    try:
        deadline = time.monotonic() + 30
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        assert server.poll() is None, (folder / "log").read_text()
        (folder / "remote").mkdir()
        yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}{folder}/remote", home.parent
    finally:
        server.terminate()
        server.wait()


def set_up_ssh(toy, address, home):
    """What the commands of docs/sharing.md write."""
    add_remote(toy, address, keyfile=home / ".ssh/id_ed25519")


def add_remote(toy, url, **local):
    """`dvc remote add --default shared URL`, and `dvc remote modify --local shared NAME VALUE` of each of ``local``."""
    config = toy.root / ".dvc/config"
    settings = config.read_text().replace("[core]\n", "[core]\n    remote = shared\n")
    config.write_text(f"{settings}['remote \"shared\"']\n    url = {url}\n")
    lines = "".join(f"    {name} = {value}\n" for name, value in local.items())
    (toy.root / ".dvc/config.local").write_text(f"['remote \"shared\"']\n{lines}")
