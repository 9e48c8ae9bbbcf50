"""The warm server: what a client gets must be what it would get by itself."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY

WARM = REPOSITORY / "src" / "mlegfn" / "warm.py"
SERVER = """
import sys
from mlegfn import warm
warm.LIBRARIES = ()
warm.serve(sys.argv[1])
"""
# The client's own `mlegfn` is the toy below, as a test has to see what a child imports.
CLIENT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("warm", sys.argv[1])
warm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(warm)
code = warm.request(sys.argv[2], sys.argv[3:])
sys.exit(77 if code is None else code)
"""
TOY = """
import os, signal, subprocess, sys, time
def run_here(arguments):
    action, *rest = arguments
    if action == "exit":
        return int(rest[0])
    if action == "say":
        print(os.getcwd(), os.environ.get("TOY"), sys.stdin.read(), rest)
        print("to stderr", file=sys.stderr)
    if action == "kill":
        os.kill(os.getpid(), int(rest[0]))
    if action == "wait":
        try:
            other = subprocess.Popen(["sleep", "60"])
            print(os.getpid(), other.pid, flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            return 130
    if action == "save":
        signal.signal(signal.SIGTERM, lambda *_: time.sleep(0.3) or os._exit(75))
        print("ready", flush=True)
        time.sleep(60)
    return 0
"""


@pytest.fixture
def server(tmp_path):
    socket = tmp_path / "socket"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(socket)], env=environment)
    wait_for(socket.exists)
    process.socket = socket
    yield process
    process.terminate()
    process.wait()


@pytest.fixture
def toy(tmp_path):
    package = tmp_path / "toy" / "mlegfn"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(TOY)
    return package


def wait_for(condition, seconds=20):
    """Wait until ``condition()`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def start(server, toy, *arguments, **kwargs):
    environment = {**os.environ, "PYTHONPATH": str(toy.parent), **kwargs.pop("environment", {})}
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(WARM), str(server.socket), *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before it was read
        return False


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_exit_code(server, toy, code):
    assert start(server, toy, "exit", str(code)).wait(20) == code


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_death_by_signal_is_passed_on(server, toy, signum):
    assert start(server, toy, "kill", str(int(signum))).wait(20) == -signum


def test_streams_directory_environment_and_arguments(server, toy, tmp_path):
    client = start(server, toy, "say", "a b", "ü", cwd=tmp_path, environment={"TOY": "yes"})
    out, err = client.communicate("from stdin", timeout=20)
    assert out == f"{tmp_path} yes from stdin ['a b', 'ü']\n"
    assert err == "to stderr\n"
    assert client.returncode == 0


def test_source_is_read_anew(server, toy):
    assert start(server, toy, "exit", "0").wait(20) == 0
    (toy / "cli.py").write_text("def run_here(arguments):\n    return 42\n")
    assert start(server, toy, "exit", "0").wait(20) == 42


YAML_SERVER = """
import sys
from mlegfn import warm
warm.LIBRARIES = ("ruamel.yaml",)
warm.serve(sys.argv[1])
"""
YAML_CLI = """
import json
from mlegfn import yaml_file
from mlegfn.errors import UserError
def run_here(arguments):
    for name in arguments:
        known = open(name).read() in yaml_file.PARSED
        try:
            print(json.dumps([known, yaml_file.read_yaml(name)]))
        except UserError as error:
            print(json.dumps([known, str(error)]))
    return 0
"""
# Nine lines that stand for 10^9 values.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


def test_what_the_server_has_parsed_is_believed_for_that_text_alone(toy, tmp_path):
    for name in ("errors.py", "libyaml.py", "yaml_file.py"):
        (toy / name).write_text((WARM.parent / name).read_text())
    (toy / "cli.py").write_text(YAML_CLI)
    params, other = tmp_path / "params.yaml", tmp_path / "dvc.yaml"
    params.write_text("rate: 1e-3\nagree: no\nof: {a: &a [1, 2], b: *a}\n")
    other.write_text(BOMB)
    socket = tmp_path / "socket"
    process = subprocess.Popen(
        [sys.executable, "-c", YAML_SERVER, str(socket)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        cwd=tmp_path,
    )
    try:
        wait_for(socket.exists)
        process.socket = socket

        def ask(*names):
            out, err = start(process, toy, *names, cwd=tmp_path).communicate(timeout=60)
            assert not err
            return [json.loads(line) for line in out.splitlines()]

        expected = {"rate": 1e-3, "agree": "no", "of": {"a": [1, 2], "b": [1, 2]}}
        (first, bomb) = ask("params.yaml", "dvc.yaml")
        assert first == [True, expected]
        assert bomb[0] is True and "values" in bomb[1]
        params.write_text("rate: 2\n")
        assert ask("params.yaml") == [[False, {"rate": 2}]]
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("signum, code", [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_reach_the_child(server, toy, signum, code):
    client = start(server, toy, "wait")
    child, grandchild = map(int, client.stdout.readline().split())
    client.send_signal(signum)
    assert client.wait(20) == code
    wait_for(lambda: not alive(child) and not alive(grandchild))


@pytest.mark.parametrize("asked", ["client", "server", "both"])
def test_a_child_that_is_asked_to_stop_may_save(server, toy, asked):
    """The server is part of the process tree that a scheduler signals, and must not kill what is saving."""
    client = start(server, toy, "save")
    assert client.stdout.readline() == "ready\n"
    for process in {"client": [client], "server": [server], "both": [server, client]}[asked]:
        process.send_signal(signal.SIGTERM)
    assert client.wait(20) == 75
    if asked == "client":
        assert start(server, toy, "exit", "3").wait(20) == 3
    else:
        assert server.wait(20) == 0


def test_a_child_that_does_not_stop_is_killed_after_the_grace_time(toy, tmp_path):
    socket = tmp_path / "socket"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "MLEGFN_GRACE": "0.2"}
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(socket)], env=environment)
    server.socket = socket
    wait_for(socket.exists)
    (toy / "cli.py").write_text(TOY.replace("time.sleep(0.3) or os._exit(75)", "None"))
    client = start(server, toy, "save")
    assert client.stdout.readline() == "ready\n"
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    assert client.wait(20) == 1


def test_killed_client_takes_its_child_along(server, toy):
    client = start(server, toy, "wait")
    child, grandchild = map(int, client.stdout.readline().split())
    client.kill()
    wait_for(lambda: not alive(child) and not alive(grandchild))
    assert start(server, toy, "exit", "3").wait(20) == 3


def test_killed_server_takes_its_children_along(server, toy):
    client = start(server, toy, "wait")
    child, grandchild = map(int, client.stdout.readline().split())
    server.kill()
    assert client.wait(20) == 1
    assert "warm server" in client.stderr.readline()
    os.kill(grandchild, signal.SIGKILL)
    if sys.platform == "linux":
        wait_for(lambda: not alive(child))


def test_server_ends_with_its_parent(tmp_path):
    socket = tmp_path / "socket"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {SERVER!r}, {str(socket)!r}]);"
            "print(p.pid, flush=True); time.sleep(60)",
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    wait_for(socket.exists)
    parent.kill()
    wait_for(lambda: not alive(pid))


def test_without_a_server_the_client_says_so(toy, tmp_path):
    class Nothing:
        socket = tmp_path / "none"

    assert start(Nothing, toy, "exit", "0").wait(20) == 77


def test_socket_is_private(server):
    assert server.socket.stat().st_mode & 0o077 == 0


def test_broken_request_does_not_stop_the_server(server, toy):
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.socket))
        connection.sendall(b"nonsense")
    assert start(server, toy, "exit", "5").wait(20) == 5


def test_the_server_never_starts_cuda():
    """A driver started before the fork would be of no use to any stage; diffusers asks for GPUs at import."""
    code = """
import os, torch

def asked():
    print("asked", flush=True)
    os._exit(1)

torch.cuda.is_available = asked
from mlegfn import warm
warm.preload()
import diffusers
print("restored" if torch.cuda.is_available is asked else "replaced", flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "restored")
