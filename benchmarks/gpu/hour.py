"""As much of the scale cifar10_hour as fits into some minutes, on a machine with PyTorch alone.

    python benchmarks/gpu/hour.py --minutes 12 [--archive IMAGES] [--folder build/gpu/hour] [--jobs 2] [--tiny]
    python benchmarks/gpu/hour.py --report …

Works in a folder of its own whose params.yaml has one scale more: cifar10_hour with as many of its first checkpoints as
budget.py says will fit, in the paper's arm and its controls, on the images of --archive if given; then the scale has the archive's name, because numbers from
re-encoded images must not pass for CIFAR-10's. The image stages run, --jobs at once (they spend much of their time in
imports and compilers). A stage keeps its finished parts; when the time is up, trainings save their state and the same
command goes on. --report draws figures and tables of what is done.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import budget
import counts

ROOT = Path(__file__).resolve().parents[2]
ARMS = ("simple", "simple_tbc", "reweighted")  # the paper's and its controls: those of the bound have no time


def without_others(scale):
    """The scale with these arms alone."""
    others = {arm: None for arm in counts.arms_of(scale) if arm not in ARMS}
    return scale.model_copy(update={"finetune": scale.finetune.model_copy(update=others)})


def tiny(scale, smoke):
    """The scale's shape with everything small, for a CPU in a minute."""
    chains = scale.finetune.all.consistency.model_copy(update={"chain_steps": 4, "images": 1})
    shared = {
        "evaluate_at": [2],
        "batch": 4,
        "optimizer": smoke.finetune.all.optimizer,
        "consistency": chains,
        "search": scale.finetune.all.search.model_copy(update={"checkpoint": 2, "seed": 0}),
    }
    pretrain = {
        "seeds": [0],
        "checkpoints": [2],
        "stop": 4,
        "batch": 4,
        "optimizer": smoke.pretrain.optimizer,
    }
    return scale.model_copy(
        update={
            "machine": smoke.machine,
            "compute": smoke.compute,
            "network": smoke.network,
            "diffusion": scale.diffusion.model_copy(update={"timesteps": 8}),
            "data": scale.data.model_copy(update={"test_limit": 8, "validation": 8}),
            "pretrain": scale.pretrain.model_copy(update=pretrain),
            "finetune": scale.finetune.model_copy(
                update={"all": scale.finetune.all.model_copy(update=shared)}
            ),
            "nll": scale.nll.model_copy(update={"batch": 64, "evaluations": 4, "log_p": smoke.nll.log_p}),
            "trajectories": smoke.trajectories.model_copy(update={"checkpoint": 2}),
            "quality": smoke.quality,
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
        for split, count in (("train", 24), ("test", 8)):
            for i in range(count):
                content = io.BytesIO()
                Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype="uint8")).save(content, "PNG")
                archive.writestr(f"{split}/{i % 2}/{i}.png", content.getvalue())


def settle(options):
    """(name, image settings) that will run: those of the last call in this folder, or new ones."""
    from reproduction.params import load

    options.folder.mkdir(parents=True, exist_ok=True)
    if (options.folder / "scale").exists():
        name = (options.folder / "scale").read_text()
        return name, load(options.folder / "params.yaml").images[name]
    params, name = load(ROOT / "params.yaml"), "cifar10_hour"
    scale = without_others(params.images[name])
    if options.tiny:
        scale = tiny(scale, params.images["smoke"])
        options.archive = options.archive or options.folder / "tiny.zip"
        if not Path(options.archive).exists():
            tiny_archive(options.archive)
    if options.archive:
        from mlegfn.data.archive import label_of

        path = Path(options.archive).resolve()
        name = re.sub(r"[^a-z0-9]", "_", label_of(path).lower()) + "_hour"
        scale = scale.model_copy(
            update={"data": scale.data.model_copy(update={"source": "archive", "path": str(path)})}
        )
    rate = budget.rates(scale, budget.SHAPES["cifar10"], folder=options.results)
    count = len(scale.pretrain.checkpoints)
    if not options.tiny:
        overhead = options.overhead / options.jobs
        count = budget.fitting(scale, rate, overhead, options.fit or options.minutes) or 1
    print(f"{count} of {len(scale.pretrain.checkpoints)} checkpoints; rates {rate['source']}", flush=True)
    return name, budget.with_checkpoints(scale, count)


def write(folder, name, scale):
    """Make ``folder`` a checkout that has this scale too."""
    from reproduction.params import read

    for shared in ("src", "dvc.yaml", "claims"):
        link = folder / shared
        if not link.exists():
            link.symlink_to(os.path.relpath(ROOT / shared, folder))
    params = read(ROOT / "params.yaml")  # one file may hold everything
    params["images"][name] = scale.model_dump(mode="json")
    if name not in params["image_scales"]:
        params["image_scales"].append(name)
    runs = {f"{name}-{arm}": {"scale": name, "arm": arm} for arm in counts.arms_of(scale)}
    others = {key: entry for key, entry in params["arm_runs"].items() if entry["scale"] != name}
    params["arm_runs"] = others | runs
    (folder / "params.yaml").write_text(json.dumps(params, indent=1) + "\n")
    (folder / "scale").write_text(name)


def stages(name, arms):
    """{stage: (words of its command, the stages before it)}, in the order in which they are started."""
    found = {
        "fetch": (["images.fetch", name], []),
        "pretrain": (["images.pretrain", name], ["fetch"]),
        **{f"finetune-{arm}": (["images.finetune", name, arm], ["pretrain"]) for arm in arms},
        "baseline_nll": (["images.baseline_nll", name], ["pretrain"]),
        **{f"nll-{arm}": (["images.nll", name, arm], [f"finetune-{arm}"]) for arm in arms},
    }
    trained = [f"finetune-{arm}" for arm in arms]
    found["trajectories"] = (["images.trajectories", name], trained)
    found["quality"] = (["images.quality", name], trained)
    return found


class Schedule:
    """Which of ``stages`` have to run, and which may run now. A file in ``logs`` says that a stage is done."""

    def __init__(self, folder, stages):
        self.logs, self.failed = folder / "logs", set()
        self.logs.mkdir(exist_ok=True)
        self.stages = stages

    def done(self, stage):
        return (self.logs / f"{stage}.done").exists()

    def next(self, running):
        """The first stage that can start beside ``running``, or None."""
        for stage, (_, before) in self.stages.items():
            if stage in running or stage in self.failed or self.done(stage):
                continue
            if all(self.done(each) for each in before):
                return stage
        return None

    def start(self, stage, options):
        """The process of a stage, in the folder."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "TORCHINDUCTOR_CACHE_DIR": str((options.folder / "inductor").resolve()),
        }
        command = [sys.executable, "-m", "reproduction", "stage", *self.stages[stage][0]]
        with open(self.logs / f"{stage}.log", "a") as file:
            return subprocess.Popen(
                command, cwd=options.folder, env=environment, stdout=file, stderr=subprocess.STDOUT
            )

    def ended(self, stage, code):
        if code:
            self.failed.add(stage)
            print(f"{stage}: exit {code}; {self.logs / stage}.log", flush=True)
        else:
            (self.logs / f"{stage}.done").touch()


def run(options, schedule, until):
    """Run stages until all are done or the time is up; how many are not done."""
    running = {}
    try:
        while True:
            for stage, process in list(running.items()):
                if process.poll() is not None:
                    del running[stage]
                    schedule.ended(stage, process.returncode)
            if time.monotonic() > until:
                break
            while len(running) < options.jobs and (stage := schedule.next(running)):
                running[stage] = schedule.start(stage, options)
            if not running:
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
    left = [stage for stage in schedule.stages if not schedule.done(stage)]
    print(f"{len(schedule.stages) - len(left)} of {len(schedule.stages)} stages done", flush=True)
    return len(left)


def finished(folder, name, scale):
    """How many checkpoints from the first on have every NLL, the baseline's one segment later among them."""
    nll, count = folder / "results" / name / "images" / "metrics" / "nll", 0
    segments, arms = scale.pretrain.segments, counts.arms_of(scale)
    for step, later in zip(segments, segments[1:]):
        for seed in scale.pretrain.seeds:
            runs = [nll / arm / f"{step}-{seed}.json" for arm in arms]
            if not all(file.exists() for file in (nll / "baseline" / f"{later}-{seed}.json", *runs)):
                return count
        count += 1
    return count


def report(options, name, scale):
    """Figures, tables and verdicts of the checkpoints that are finished, however few the budget foresaw."""
    count = finished(options.folder, name, scale)
    if not count:
        print("no checkpoint is finished: nothing to draw")
        return 1
    if count < len(scale.pretrain.checkpoints):
        scale = budget.with_checkpoints(scale, count)
        write(options.folder, name, scale)
        for file in (options.folder / "logs").glob("*.done"):
            file.unlink()  # each has few parts to look at, and deletes those of other checkpoints
    until = time.monotonic() + 60 * options.minutes
    left = run(options, Schedule(options.folder, stages(name, counts.arms_of(scale))), until)
    only = {"report": (["images.report", name], [])}
    (options.folder / "logs" / "report.done").unlink(missing_ok=True)
    left += run(options, Schedule(options.folder, only), until)
    print(f"{count} checkpoint(s) shown, to step {scale.pretrain.stop}, data {name.removesuffix('_hour')}")
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
        run(options, Schedule(options.folder, stages(name, counts.arms_of(scale))), until)
        return 0
    except UserError as error:
        print(f"hour: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
