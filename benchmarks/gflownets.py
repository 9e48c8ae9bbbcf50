"""Iterations per second of training with trajectory balance: mlegfn beside torchgfn and gfnx (JAX), on one core.

    python benchmarks/gflownets.py [--tasks grid8 grid16 sets] [--batches 16 128] [--repeats 5]

The same targets, network, optimiser and batch, see benchmarks/peers/tasks.py, each contender by its own means and in
a process of its own, pinned to one core, by turns: A B C, C B A, … Compilation and warm-up are not timed. The peers'
environments are made with uv in ``--cache``, which takes minutes and a network the first time, and 6 GB. Writes
benchmarks/results/gflownets.json; the bar is 10 × torchgfn (issue 5), gfnx is reported. The timed part is the first
``--iterations`` of training, where trajectories of the hypergrids are shorter than at its end: that is to the good of
those who stop when all of a batch have (torchgfn), and of no consequence to gfnx, which always takes the most steps.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "peers"))

import tasks
from machine import finish, provenance

HERE = Path(__file__).parent
PEERS = ("torchgfn", "gfnx")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
}


def interpreter(peer, cache):
    """The python of the peer's environment, which is made where it is not as its requirements say."""
    requirements, folder = HERE / "peers" / f"{peer}.txt", cache / peer
    python, made_of = folder / "bin" / "python", folder / "made_of.txt"
    if made_of.exists() and made_of.read_text() == requirements.read_text():
        return python
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if uv is None:
        raise SystemExit(
            "the peers' environments are made with uv, which is neither beside python nor on PATH"
        )
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, "-r", requirements]
    subprocess.run(install, check=True)
    shutil.copy(requirements, made_of)
    return python


@contextmanager
def contender(name, python, task, batch):
    """measure(seed, iterations, seconds), of a process that sleeps until it is asked."""
    environment = {**os.environ, **ENVIRONMENT}
    if name in PEERS:
        environment.pop("PYTHONPATH", None)
    command = [python, HERE / "peers" / f"run_{name}.py", task, str(batch)]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, stderr=errors, text=True
        ) as process,
    ):

        def measure(seed, iterations, seconds):
            try:
                print(seed, iterations, seconds, file=process.stdin, flush=True)
                return json.loads(process.stdout.readline())
            except (BrokenPipeError, json.JSONDecodeError):
                process.wait()
                errors.seek(0)
                raise SystemExit(f"{name} failed:\n{errors.read()[-3000:]}") from None

        try:
            yield measure
        finally:
            process.kill()


def compare(pythons, task, batch, options):
    """{contender: the median of its iterations per second, and all that its rounds gave}."""
    found = {name: [] for name in pythons}
    with ExitStack() as stack:
        measures = [
            (name, stack.enter_context(contender(name, python, task, batch)))
            for name, python in pythons.items()
        ]
        for turn in range(options.repeats):
            for name, measure in measures if turn % 2 == 0 else reversed(measures):
                found[name].append(measure(turn, options.iterations, options.seconds))
    return {
        name: {"per_second": median(one["per_second"] for one in rounds), "rounds": rounds}
        for name, rounds in found.items()
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", nargs="+", choices=tasks.TASKS, default=list(tasks.TASKS))
    parser.add_argument("--batches", nargs="+", type=int, default=list(tasks.BATCHES))
    parser.add_argument("--contenders", nargs="+", choices=("mlegfn", *PEERS), default=["mlegfn", *PEERS])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=200, help="of each model that is trained")
    parser.add_argument("--seconds", type=float, default=1.0, help="least to be timed, by more models")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument(
        "--cache", type=Path, default=HERE / ".peers", help="where the peers' environments are"
    )
    parser.add_argument("--results", type=Path, help="folder of the JSON; benchmarks/results by default")
    options = parser.parse_args()
    about, started = provenance(), time.perf_counter()
    pythons = {
        name: interpreter(name, options.cache) if name in PEERS else sys.executable
        for name in options.contenders
    }
    os.sched_setaffinity(0, {options.core})  # of all that is started from here
    found, bars, ratios = {}, {}, {}
    for task in options.tasks:
        for batch in options.batches:
            case = f"{task}, batch {batch}"
            found[case] = compare(pythons, task, batch, options)
            rates = {name: one["per_second"] for name, one in found[case].items()}
            print(case, {name: round(rate, 1) for name, rate in rates.items()}, flush=True)
            ratios[case] = {
                peer: rates["mlegfn"] / rates[peer] for peer in rates if "mlegfn" in rates and peer in PEERS
            }
            if "torchgfn" in ratios[case]:
                bars[f"{case}: mlegfn over torchgfn"] = (ratios[case]["torchgfn"], ">=", 10)
    return finish(
        "gflownets",
        about,
        started,
        bars,
        results=options.results,
        core=options.core,
        seeds=list(range(options.repeats)),
        iterations_per_model=options.iterations,
        mlegfn_over=ratios,
        cases=found,
    )


if __name__ == "__main__":
    sys.exit(main())
