"""As much of the scale cifar10-hour as fits into some minutes, on a machine with PyTorch alone.

    python benchmarks/gpu/hour.py --minutes 12 [--archive IMAGES] [--folder build/gpu/hour] [--jobs 2] [--tiny]
    python benchmarks/gpu/hour.py --report …

Works in a folder of its own with a params.yaml that holds one scale: cifar10-hour with as many of its first
checkpoints as budget.py says will fit, on the images of --archive if given; then the scale has the archive's
name, because numbers from re-encoded images must not pass for CIFAR-10's. The stages are those of `mlegfn plan`,
checkpoint by checkpoint, --jobs at once (they spend much of their time in imports and compilers), those of the
planar problems beside them on the CPU. A stage that is there already is not run again; when the time is up,
trainings save their state and the same command goes on. --report draws figures and tables of what is done.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import budget

ROOT = Path(__file__).resolve().parents[2]


def tiny(scale, smoke):
    """The scale's shape with everything small, for a CPU in a minute."""
    diffusion = scale.diffusion.model_copy(update={"timesteps": 8})
    tbc = scale.finetune.consistency.model_copy(update={"chain_steps": 4, "images": 1})
    optimizer = smoke.finetune.optimizer
    return scale.model_copy(
        update={
            "accelerator": "cpu",
            "network": smoke.network,
            "diffusion": diffusion,
            "data": scale.data.model_copy(update={"test_limit": 8}),
            "pretrain": scale.pretrain.model_copy(
                update={"checkpoints": [2], "stop": 4, "batch": 4, "optimizer": smoke.pretrain.optimizer}
            ),
            "finetune": scale.finetune.model_copy(
                update={
                    "arms": ["simple", "tbc"],
                    "steps": 2,
                    "evaluate_at": [2],
                    "batch": 4,
                    "optimizer": optimizer,
                    "consistency": tbc,
                }
            ),
            "nll": scale.nll.model_copy(update={"batch": 64, "evaluations": 4}),
            "trajectories": smoke.trajectories.model_copy(update={"checkpoint": 2}),
            "quality": smoke.quality,
            "planar": smoke.planar.model_copy(update={"problems": ["moons"], "seeds": [0]}),
        }
    )


def tiny_archive(path):
    """A zip of random 32×32 images in the layout of an archive."""
    import io
    import zipfile

    import numpy
    from PIL import Image

    draw = numpy.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for split, count in (("train", 16), ("test", 8)):
            for i in range(count):
                content = io.BytesIO()
                Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype="uint8")).save(content, "PNG")
                archive.writestr(f"{split}/{i % 2}/{i}.png", content.getvalue())


def settle(options):
    """(name, scale) that will run: the settings of the last call in this folder, or new ones."""
    from mlegfn.config import load

    options.folder.mkdir(parents=True, exist_ok=True)
    written = options.folder / "params.yaml"
    if written.exists():
        return next(iter(load(written).scales.items()))
    params, name = load(ROOT / "params.yaml"), "cifar10-hour"
    scale = params.scale(name)
    if options.tiny:
        scale = tiny(scale, params.scale("smoke"))
        options.archive = options.archive or options.folder / "tiny.zip"
        if not Path(options.archive).exists():
            tiny_archive(options.archive)
    if options.archive:
        from mlegfn.data.archive import label_of

        path = Path(options.archive).resolve()
        name = f"{label_of(path)}-hour".lower()
        scale = scale.model_copy(
            update={"data": scale.data.model_copy(update={"source": "archive", "path": str(path)})}
        )
    rate = budget.rates(scale, budget.SHAPES["cifar10"], folder=options.results)
    count = len(scale.pretrain.checkpoints)
    if not options.tiny:
        count = (
            budget.fitting(name, scale, rate, options.overhead / options.jobs, options.fit or options.minutes)
            or 1
        )
    print(f"{count} of {len(scale.pretrain.checkpoints)} checkpoints; rates {rate['source']}", flush=True)
    return name, budget.with_checkpoints(scale, count)


def write(folder, name, scale):
    """Make ``folder`` a checkout with this scale alone."""
    from mlegfn import graph
    from mlegfn.config import Params

    for shared in ("src", "dvc.yaml", "claims.yaml"):
        link = folder / shared
        if not link.exists():
            link.symlink_to(os.path.relpath(ROOT / shared, folder))
    params = Params.model_construct(scales={name: scale})
    text = json.dumps({"scales": {name: scale.model_dump(mode="json")}}, indent=1)
    (folder / "params.yaml").write_text(text + "\n")
    (folder / "graph.json").write_text(graph.render(params))


class Schedule:
    """Which stages have to run, and which may run now."""

    def __init__(self, folder, name):
        from mlegfn.pipeline import engine

        before = Path.cwd()
        os.chdir(folder)
        try:
            self.pipeline = engine.read(name)
        finally:
            os.chdir(before)
        self.folder, self.name, self.failed = folder, name, set()
        self.order = sorted(self.pipeline.order(), key=self.place)

    def step(self, stage):
        """The checkpoint a stage is for; none for those that come last."""
        words = self.pipeline.stages[stage].cmd.split()
        return int(words[words.index("--step") + 1]) if "--step" in words else None

    def place(self, stage):
        """Sort key: data, then checkpoint by checkpoint, then what shows them."""
        kind, step = stage.split("@")[0], self.step(stage)
        if kind in ("fetch", "planar"):
            return 0
        return step if step is not None else float("inf")

    def done(self, stage):
        return all((self.folder / out).exists() for out in self.pipeline.stages[stage].outs)

    def next(self, running):
        """The first stage that can start beside ``running``, or None."""
        for stage in self.order:
            if stage in running or stage in self.failed or self.done(stage):
                continue
            if all(self.done(before) for before in self.pipeline.upstream[stage]):
                return stage
        return None


def is_beside(stage):
    """Whether a stage needs no GPU, so that it takes no place of one that does."""
    return stage.startswith(("planar@", "fetch@"))


def run(options, name, until):
    """Run stages until all are done or the time is up; how many are not done."""
    schedule = Schedule(options.folder, name)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH", "")])]),
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str((options.folder / "inductor").resolve()),
    }
    logs = options.folder / "logs"
    logs.mkdir(exist_ok=True)
    warm, running = serve_warm(options, environment), {}
    try:
        while True:
            for stage, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[stage]
                if process.returncode:
                    schedule.failed.add(stage)
                    print(f"{stage}: exit {process.returncode}; {logs / stage}.log", flush=True)
            if time.monotonic() > until:
                break
            while True:
                busy = [stage for stage in running if not is_beside(stage)]
                stage = schedule.next(running)
                full = len(busy) >= options.jobs if stage and not is_beside(stage) else len(running) >= 12
                if stage is None or full:
                    break
                running[stage] = launch(
                    schedule.pipeline.stages[stage].cmd, options, environment, logs / stage
                )
            if not running and schedule.next(running) is None:
                break
            time.sleep(0.1)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)  # a training saves its state
        deadline = time.monotonic() + 30
        for process in running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        if warm:
            warm.terminate()
            warm.wait()
    left = [stage for stage in schedule.order if not schedule.done(stage)]
    print(f"{len(schedule.order) - len(left)} of {len(schedule.order)} stages done", flush=True)
    return len(left)


def serve_warm(options, environment):
    """A process that has imported the libraries, so that stages need not; None if it does not start, or runs already."""
    if os.path.exists(environment.get("MLEGFN_WARM", "")):
        return None
    # A socket's path may be short only, and the folder's may be long.
    socket = Path(tempfile.gettempdir()) / f"mlegfn-hour-{os.getpid()}"
    command = [sys.executable, "-m", "mlegfn", "warm", str(socket)]
    server = subprocess.Popen(command, cwd=options.folder, env=environment)
    deadline = time.monotonic() + 90
    while not socket.exists() and server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if not socket.exists():
        server.kill()
        return None
    environment["MLEGFN_WARM"] = str(socket)
    return server


def launch(command, options, environment, log):
    """Start ``mlegfn …`` in the folder."""
    words = command.split()
    assert words[0] == "mlegfn", command
    with open(f"{log}.log", "a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "mlegfn", *words[1:]],
            cwd=options.folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def finished(schedule, scale):
    """How many checkpoints from the first on have everything, NLL included."""
    count = 0
    for step in scale.pretrain.checkpoints:
        stages = [stage for stage in schedule.order if schedule.step(stage) == step]
        if not all(schedule.done(stage) for stage in stages):
            break
        count += 1
    return count


def report(options, name, scale):
    """Figures, tables and verdicts of the checkpoints that are finished, however few the budget foresaw."""
    schedule = Schedule(options.folder, name)
    count = finished(schedule, scale)
    stops = scale.pretrain.segments
    if count and not schedule.done(f"nll@{name}-baseline-{stops[count]}"):
        count -= 1  # the baseline has to reach one segment beyond the last checkpoint shown
    if not count:
        print("no checkpoint is finished: nothing to draw")
        return 1
    if count < len(scale.pretrain.checkpoints):
        scale = budget.with_checkpoints(scale, count)
        write(options.folder, name, scale)
    # Whatever was drawn shows fewer checkpoints, or others.
    for kind in ("figures", "tables", "report"):
        for file in (options.folder / "results" / name / kind).glob("*"):
            file.unlink()
    left = run(options, name, time.monotonic() + 60 * options.minutes)
    print(f"{count} checkpoint(s) shown, to step {scale.pretrain.stop}, data {name.removesuffix('-hour')}")
    return 1 if left else 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=12.0)
    arguments.add_argument("--fit", type=float, help="choose checkpoints for so many minutes, not --minutes")
    arguments.add_argument("--archive", help="images instead of CIFAR-10 from torchvision or MLEGFN_MIRROR")
    arguments.add_argument("--folder", type=Path, default=Path("build/gpu/hour"))
    arguments.add_argument("--results", type=Path, help="where gpu-*.json with measured rates lie")
    arguments.add_argument("--overhead", type=float, default=budget.ASSUMED_OVERHEAD, help="seconds a stage")
    arguments.add_argument("--jobs", type=int, default=2, help="stages on the GPU at once")
    arguments.add_argument("--report", action="store_true")
    arguments.add_argument("--tiny", action="store_true", help="everything small, on a CPU")
    options = arguments.parse_args()
    until = time.monotonic() + 60 * options.minutes

    from mlegfn.errors import UserError

    try:
        name, scale = settle(options)
        write(options.folder, name, scale)
        if options.report:
            return report(options, name, scale)
        run(options, name, until)
        return 0
    except UserError as error:
        print(f"hour: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
