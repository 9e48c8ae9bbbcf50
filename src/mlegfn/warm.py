"""A pre-fork server: one process imports torch, diffusers and DVC, and forks a child for each stage.

Importing them takes 10 s and more, which a hundred stages would each pay. The server imports libraries only,
never this package's code, so a child runs the source as it is now. A request brings the client's arguments,
working directory, environment, import path and its stdin, stdout and stderr; the answer is the exit status.
Who dies takes the others along: the client its child, the server its children, the server's parent the server.
Who is asked to end (SIGTERM) lets the children save first: see pipeline/interruption.py.
"""

import array
import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
import traceback

LIBRARIES = (
    "torch",
    "torch._dynamo",
    "diffusers",
    "safetensors.torch",
    "dvc.cli",
    "dvc.cli.parser",
    "dvc.analytics",
    "dvc.commands.repro",
    "dvc.data_cloud",
    "dvc.lock",
    "dvc.repo.artifacts",
    "dvc.repo.datasets",
    "dvc.repo.metrics",
    "dvc.repo.open_repo",
    "dvc.repo.params",
    "dvc.repo.plots",
    "dvc.repo.reproduce",
    "dvc.repo.stage",
    "dvc.rwlock",
    "dvc.stage.cache",
    "dvc.stage.run",
    "dvc.dependency.param",
    "dvc.scm",
    "dvc.dvcfile",
    "dvc.parsing",
    "dvc.cachemgr",
    "dvc.utils.strictyaml",
    "dvc_data.hashfile.db.local",
    "dvc_data.index.checkout",
    "fsspec.implementations.memory",
    "dulwich.ignore",
    "dulwich.worktree",
    "ruamel.yaml",
    "pydantic",
    "pydantic.main",
    "pydantic.functional_validators",
    "pydantic.plugin._loader",
    "pydantic.plugin._schema_validator",
    "pydantic.types",
    "numpy",
    "pandas",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "scipy.special",
    "sklearn.datasets",
    "tqdm",
)
# diffusers imports lazily: a name has to be asked for.
NAMES = ("UNet2DModel", "DDPMPipeline", "DDPMScheduler")
FILES = ("params.yaml", "dvc.yaml")  # what DVC and the stage parse, for every stage
PARSED = {}  # text → value of FILES as they were when the server started: see yaml_file.py
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LENGTH = struct.Struct("!Q")


def preload():
    """Import what stages import. One that is missing is the stage's to complain about."""
    gc.disable()  # looking for garbage while nothing but modules come in takes a fifth of the time, and finds none
    with no_look_for_gpus():
        for name in LIBRARIES:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        for name in NAMES:
            with contextlib.suppress(KeyError, ImportError, AttributeError):
                getattr(sys.modules["diffusers"], name)
    for name in FILES:
        # Broken ones are the stage's to complain about, too.
        with contextlib.suppress(Exception), open(name, encoding="utf-8") as file:
            text = file.read()
            PARSED[text] = sys.modules["ruamel.yaml"].YAML(typ="safe").load(text)
    gc.collect()
    gc.freeze()  # what is there now stays: no collection touches it, so the children share its pages
    gc.enable()


@contextlib.contextmanager
def no_look_for_gpus():
    """diffusers asks at import whether there is a GPU, which starts CUDA's driver, and a driver that is started
    before a fork is of no use to the child. So here the answer is no; a child asks anew."""
    if "torch" not in LIBRARIES or importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    ask, torch.cuda.is_available = torch.cuda.is_available, lambda: False
    try:
        yield
    finally:
        torch.cuda.is_available = ask


def die_with_parent(signum, parent):
    """Ask Linux to send this process ``signum`` when its parent dies; elsewhere the parent has to see to it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signum, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


# The server


def serve(path):
    """Answer requests at the Unix socket ``path`` until SIGTERM or the death of the parent.

    Then no more, but the children that there are get SIGTERM and MLEGFN_GRACE seconds (60) to save.
    """
    parent, ending = os.getppid(), []
    die_with_parent(signal.SIGTERM, parent)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the clients, which pass it on
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # threads would not survive the fork

    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        new = f"{path}~"
        listener.bind(new)
        os.chmod(new, 0o600)
        listener.listen(64)
        os.rename(new, path)  # whoever sees it may connect: from here on clients queue up
        preload()
        wake, alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(alarm, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(alarm)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: ending.append(True))  # it wakes the loop below, too
        selector.register(listener, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        clients = {}  # child's process id → connection
        try:
            while os.getppid() == parent and not ending:
                serve_once(selector, listener, wake, clients)
            selector.unregister(listener)
            listener.close()
            for child in clients:
                send(child, signal.SIGTERM)
            last = time.monotonic() + seconds("MLEGFN_GRACE", 60.0)
            while clients and time.monotonic() < last:
                serve_once(selector, None, wake, clients, timeout=0.5)
        finally:
            for child in clients:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os._exit(0)  # torch's own farewell takes a second and prints what it leaked


def seconds(name, default):
    """A number of seconds from the environment."""
    try:
        return float(os.environ[name])
    except (KeyError, ValueError):
        return default


def serve_once(selector, listener, wake, clients, timeout=2.0):
    """Wait for what comes first, a request, a client's signal or a child's end, and answer it."""
    for key, _ in selector.select(timeout):
        if key.fileobj is listener:
            accept(listener, selector, clients)
        elif key.fileobj == wake:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        else:
            hear(key.fileobj, clients)
    reap(selector, clients)


def accept(listener, selector, clients):
    """Read one request and fork its child."""
    connection, _ = listener.accept()
    try:
        connection.settimeout(10)
        request, files = receive(connection)
        connection.settimeout(None)
    except (OSError, ValueError):
        connection.close()
        return
    sys.stdout.flush()
    sys.stderr.flush()
    server = os.getpid()
    child = os.fork()
    if child == 0:
        become(request, files, server)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(child, child)  # the child does it too; whoever is first
    for file in files:
        os.close(file)
    clients[child] = connection
    selector.register(connection, selectors.EVENT_READ)


def hear(connection, clients):
    """A client sends the numbers of the signals that it gets; its silence at the end means that it died.

    A signal is for the child, which passes it on to what it has started; death is for its whole group.
    """
    try:
        signals = connection.recv(64)
    except OSError:
        signals = b""
    child = next(pid for pid, other in clients.items() if other is connection)
    for signum in signals:
        send(child, signum)
    if not signals:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


def send(child, signum):
    """Send a child a signal, unless it has gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signum)


def reap(selector, clients):
    """Tell each client whose child has ended the exit status."""
    for child in list(clients):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid == 0:
            continue
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it left running
        connection = clients.pop(child)
        selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))
        connection.close()


def become(request, files, server):
    """In the child: take over the client's surroundings, run its command, exit with its code."""
    code = 1
    try:
        os.setpgid(0, 0)
        die_with_parent(signal.SIGKILL, server)
        signal.set_wakeup_fd(-1)
        for signum in (*SIGNALS, signal.SIGCHLD):
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[:] = request["path"]
        sys.argv = ["mlegfn", *request["arguments"]]
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlegfn"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        if PARSED:
            importlib.import_module("mlegfn.yaml_file").PARSED.update(PARSED)
        code = importlib.import_module("mlegfn.cli").run_here(request["arguments"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code or 0)


def receive(connection):
    """A request: its length and three file descriptors, then JSON."""
    room = socket.CMSG_SPACE(3 * array.array("i").itemsize)
    head, ancillary, _, _ = connection.recvmsg(LENGTH.size, room)
    files = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(content[: len(content) - len(content) % files.itemsize])
    if len(head) != LENGTH.size or len(files) != 3:
        raise ValueError("not a request")
    return json.loads(read_exactly(connection, LENGTH.unpack(head)[0])), list(files)


def read_exactly(connection, length):
    """``length`` bytes of a stream."""
    content = bytearray()
    while len(content) < length:
        part = connection.recv(min(length - len(content), 1 << 16))
        if not part:
            raise ValueError("the stream ends early")
        content += part
    return bytes(content)


# The client


def request(path, arguments):
    """Run ``mlegfn <arguments>`` in a child of the server at ``path``; its exit code, None if there is none."""
    body = json.dumps(
        {"arguments": arguments, "cwd": os.getcwd(), "environment": dict(os.environ), "path": sys.path}
    ).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            socket.send_fds(connection, [LENGTH.pack(len(body))], [0, 1, 2])
            connection.sendall(body)
        except OSError:
            return None

        def pass_on(signum, _):
            with contextlib.suppress(OSError):
                connection.send(bytes([signum]))

        before = {signum: signal.signal(signum, pass_on) for signum in SIGNALS}
        try:
            (code,) = struct.unpack("!i", read_exactly(connection, 4))
        except (OSError, ValueError):
            print("mlegfn: the warm server ended before its stage did; run again", file=sys.stderr)
            return 1
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
    if code < 0:  # end as the child did, so that whoever waits for this process sees the same
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    return code
