"""Fixtures of the whole session: a warm server, and copies of the repository to run in."""

import atexit
import contextlib
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import warm_server
from filelock import FileLock
from hypothesis import settings

# The same examples in every run: a change is tested, not the day's luck. Search on with another profile:
# pytest --hypothesis-profile=default
settings.register_profile("mlegfn", derandomize=True)
settings.load_profile("mlegfn")

REPOSITORY = Path(__file__).resolve().parent.parent
SOCKET = pytest.StashKey()  # where the workers' warm server listens

# Files that take minutes, or wait. They go to workers first: begun last, one of them would leave the other workers
# idle. The first one makes the fixture `snakemade`; the next three do without it, or their worker would only wait.
LONG = (
    "test_engines.py",
    "test_cluster.py",
    "test_config.py",
    "test_gpu_script.py",
    "test_sharing.py",
    "test_interruptions.py",
    "test_contributing.py",
    "test_fuzz.py",
    "test_site_browser.py",
    "test_warm.py",
)


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        # The last of the handlers, as it is the first: a worker that has reported all need not take a torch apart.
        atexit.register(os._exit, 0)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What collection imports is never garbage: nothing looks for some in it, neither meanwhile nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_unconfigure():
    gc.unfreeze()  # else libraries complain about what they find at the end


CLIENT = (
    "import os, sys; from mlegfn import warm; sys.exit(warm.request(os.environ['MLEGFN_WARM'], sys.argv[1:]))"
)


class Checkout:
    """A copy of the repository with the scales ``scales`` alone, and its own git and DVC."""

    def __init__(self, root, environment):
        self.root = root
        tools = Path(sys.executable).parent
        self.environment = {
            **environment,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(root / "src"),
            "OMP_NUM_THREADS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def run(self, *command, check=True, **kwargs):
        """Run a command here; the CompletedProcess with its output as text, stderr among it.

        Our own commands start in the warm server, as stages do: importing DVC takes longer than most of them run.
        """
        if command[0] == "mlegfn" and "MLEGFN_WARM" in self.environment:
            command = (sys.executable, "-c", CLIENT, *command[1:])
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **kwargs,
        )
        if check:
            assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout[-4000:]}"
        return done

    def edit(self, path, before, after):
        """Replace text that must be there in a file."""
        file = self.root / path
        text = file.read_text()
        assert before in text, f"{path} has no {before!r}"
        file.write_text(text.replace(before, after))

    def duplicate(self, destination):
        """A copy of this copy, artifacts and cache included."""
        destination.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", self.root, destination], check=True)  # a third of shutil.copytree's time
        environment = {k: v for k, v in self.environment.items() if k not in ("PATH", "PYTHONPATH")}
        return Checkout(destination, environment)


def copy_repository(destination, environment, scales=None):
    """Copy what git tracks, or would track, without results; keep only ``scales`` of params.yaml if given."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in listed:
        source = REPOSITORY / name
        if name and source.is_file() and not name.startswith(("results/", "benchmarks/results/", "dvc.lock")):
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, destination / name)
    if scales:
        keep_scales(destination / "params.yaml", scales)
    checkout = Checkout(destination, environment)
    checkout.run("git", "init", "-q")
    checkout.run("git", "add", "-A")
    checkout.run("git", "-c", "user.name=test", "-c", "user.email=test@test", "commit", "-qm", "copy")
    checkout.run("git", "gc", "-q")  # one file instead of six hundred, for those who copy it
    checkout.run("mlegfn", "graph")
    return checkout


def keep_scales(path, scales):
    """Drop every other scale from a params.yaml, with anchors and merges resolved."""
    import yaml
    from ruamel.yaml import YAML

    found = YAML(typ="safe", pure=True).load(path.read_text())["scales"]

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data):
            return True

    kept = {"scales": {name: found[name] for name in scales}}
    path.write_text(yaml.dump(kept, Dumper=Plain, sort_keys=False, default_flow_style=False))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """pytest-xdist's workers share one warm server, which loads for as long as many tests take."""
    if SOCKET not in node.config.stash:
        stack = contextlib.ExitStack()
        node.config.add_cleanup(stack.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlegfn-warm-")))
        prepare(folder)
        node.config.stash[SOCKET] = stack.enter_context(warm_server.running(folder))
    node.workerinput["warm"] = node.config.stash[SOCKET]


def prepare(folder):
    """What ``copy_repository`` puts into a checkout of the scale smoke, for the server to parse."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, folder)
    keep_scales(folder / "params.yaml", ["smoke"])


@pytest.fixture(scope="session")
def warm_environment(request, tmp_path_factory):
    """os.environ with a running warm server, so that a stage starts in a tenth of a second."""
    shared = getattr(request.config, "workerinput", {}).get("warm")
    with contextlib.ExitStack() as stack:
        if not shared:
            folder = tmp_path_factory.mktemp("warm")
            prepare(folder)
            shared = stack.enter_context(warm_server.running(folder))
        yield warm_server.environment(shared)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory, warm_environment):
    """A checkout with the scale smoke alone, in which nothing has run. Do not change it."""
    return copy_repository(tmp_path_factory.mktemp("pristine") / "checkout", warm_environment, ["smoke"])


@pytest.fixture(scope="session")
def snakemade(pristine, tmp_path_factory):
    """A checkout in which `mlegfn reproduce` has run the scale smoke through Snakemake. Do not change it.

    It runs once: each of pytest-xdist's workers copies what the first of them has made.
    """
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "snakemade"
    said = made / "said"
    with FileLock(f"{made}.lock"):
        if not said.exists():
            shutil.rmtree(made, ignore_errors=True)
            checkout = pristine.duplicate(made / "checkout")
            output = checkout.run("mlegfn", "reproduce", "--scale", "smoke", "--cores", "2").stdout
            said.write_text(output)
        environment = {k: v for k, v in pristine.environment.items() if k not in ("PATH", "PYTHONPATH")}
        made_there = Checkout(made / "checkout", environment)
        checkout = made_there.duplicate(tmp_path_factory.mktemp("snakemake") / "checkout")
    checkout.reproduced = said.read_text()
    return checkout


@pytest.fixture
def smoke(snakemade, tmp_path):
    """A copy of ``snakemade`` to change."""
    return snakemade.duplicate(tmp_path / "checkout")
