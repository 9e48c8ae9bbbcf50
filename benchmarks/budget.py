"""How many network evaluations a scale asks for, and the GPU-hours that they come to.

    python benchmarks/budget.py [--scale cifar10_hour] [--training-rate IMAGES/S] [--evaluation-rate IMAGES/S]
                                [--overhead SECONDS] [--json]

The counts are exact (counts.py). The hours are counts over two rates, of training (forward and backward) and of
evaluation (forward), plus an overhead a stage (start, imports, compilation, checkpoints). The rates come from the
options, else from benchmarks/results/gpu-{training,likelihood}.json where they were measured on a GPU, else from an
*assumed* utilisation of an H100's bf16 peak; the output says which. ``--fit MINUTES`` says how many checkpoints fit into
that time.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from counts import arms_of, work
from machine import RESULTS

H100_PEAK = 989e12  # dense bf16 FLOP/s of an H100 or H200 SXM, NVIDIA's data sheet
ASSUMED_TRAINING = 0.095  # model-FLOP utilisation: a guess until a GPU has been measured
ASSUMED_EVALUATION = 0.10
ASSUMED_OVERHEAD = 15.0  # seconds a stage
# A denoising step cannot be faster than the launch of its kernels, however few images it is for.
ASSUMED_LATENCY = 0.015  # seconds a forward pass
OTHERS = 2  # fetch and report, which evaluate no network
SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32)}


def stages(kind, scale):
    """How many stages a scale has of a kind: of fine-tuning and its NLL one an arm, none of what is a part of another."""
    arms = len(arms_of(scale))
    return {"search": 0, "log_p": 0, "finetune": arms, "nll": arms}.get(kind, 1)


def rates(scale, shape, training=None, evaluation=None, folder=None):
    """{"training", "evaluation": states/s, "source": where they come from, in words}.

    folder: where gpu-training.json and gpu-likelihood.json lie, benchmarks/results if None.
    """
    from network_cost import flops

    counted = flops(scale, shape)
    own, sources = {}, []
    for kind, direction, assumed in (
        ("training", "forward_backward", ASSUMED_TRAINING),
        ("evaluation", "forward", ASSUMED_EVALUATION),
    ):
        measured = measurement(Path(folder or RESULTS), kind)
        if measured:
            # Of DDPM's own network; another one is taken to run at the same FLOP/s.
            rate, of, gpu = measured
            own[kind] = rate * of[direction] / counted[direction]
            sources.append(f"{kind} measured on {gpu}")
        else:
            own[kind] = assumed * H100_PEAK / counted[direction]
            sources.append(
                f"{kind} ASSUMED, {assumed:.1%} of an H100's bf16 peak of {H100_PEAK / 1e12:.0f} TFLOP/s"
            )
    source = "; ".join(sources)
    if training or evaluation:
        source = "given on the command line" + ("" if training and evaluation else f"; the other {source}")
    return {
        "training": training or own["training"],
        "evaluation": evaluation or own["evaluation"],
        "source": source,
        "flops": counted,
    }


def measurement(folder, kind):
    """(states/s, FLOPs a state, GPU) of a benchmark of the 35.7 M network on a GPU; None if there is none."""
    file = folder / {"training": "gpu-training.json", "evaluation": "gpu-likelihood.json"}[kind]
    found = json.loads(file.read_text()) if file.exists() else {}
    if not found.get("gpu") or found.get("tiny") or not found["rates"].get(kind):
        return None
    return found["rates"][kind], found["flops"], found["gpu"]


def seconds(part, rate):
    """Wall time of a ``Work`` on one GPU, its parts one after the other, without the stages' overhead."""
    forward_only = part.forward - part.backward
    sampling = max(forward_only / rate["evaluation"], part.passes * ASSUMED_LATENCY)
    return part.backward / rate["training"] + sampling


def budget(scale, rate, overhead, archive_test_images=10_000):
    """{"stages": {kind: counts and seconds}, "other_stages", "gpu_hours", "hours"} of a scale."""
    rows = {}
    for kind, part in work(scale, archive_test_images).items():
        count = stages(kind, scale)
        rows[kind] = {"stages": count, **asdict(part), "seconds": seconds(part, rate) + count * overhead}
    total = sum(row["seconds"] for row in rows.values())
    return {
        "stages": rows,
        "other_stages": OTHERS,
        "gpu_hours": total / 3600,
        "hours": (total + OTHERS * overhead) / 3600,
    }


def with_checkpoints(scale, count):
    """The scale with its first ``count`` checkpoints alone; the baseline ends one segment later.

    The arms' settings are chosen at the same checkpoint as before, or at the first where that one is gone.
    """
    *kept, stop = scale.pretrain.segments[: count + 1]
    search = scale.finetune.all.search
    if search.checkpoint not in kept:
        search = search.model_copy(update={"checkpoint": kept[0]})
    every = scale.finetune.all.model_copy(update={"search": search})
    return scale.model_copy(
        update={
            "pretrain": scale.pretrain.model_copy(update={"checkpoints": kept, "stop": stop}),
            "finetune": scale.finetune.model_copy(update={"all": every}),
            "trajectories": scale.trajectories.model_copy(update={"checkpoint": kept[-1]}),
        }
    )


def fitting(scale, rate, overhead, minutes, archive_test_images=10_000):
    """The most checkpoints with which the whole scale ends within ``minutes``; 0 if not even one does."""
    fits = 0
    for count in range(1, len(scale.pretrain.checkpoints) + 1):
        found = budget(
            with_checkpoints(scale, count), rate, overhead, archive_test_images=archive_test_images
        )
        if found["hours"] * 60 <= minutes:
            fits = count
    return fits


def table(found):
    """The budget as text."""
    lines = [
        f"{'stage':<14}{'stages':>8}{'forward only':>16}{'forward+backward':>18}{'minutes':>10}",
    ]
    for kind, row in found["stages"].items():
        lines.append(
            f"{kind:<14}{row['stages']:>8}{row['forward'] - row['backward']:>16,}{row['backward']:>18,}"
            f"{row['seconds'] / 60:>10.1f}"
        )
    lines.append(
        f"{'fetch, report':<14}{found['other_stages']:>8}{'':>16}{'':>18}"
        f"{found['hours'] * 60 - found['gpu_hours'] * 60:>10.1f}"
    )
    lines.append(f"{found['gpu_hours']:.2f} GPU-hours; {found['hours'] * 60:.0f} minutes in all")
    return "\n".join(lines)


def block_of(params, name):
    """The image settings of a scale."""
    from mlegfn.errors import UserError

    if name not in params.images:
        raise UserError(f"no images of a scale {name!r}; there are {', '.join(params.images)}")
    return params.images[name]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", default="cifar10_hour")
    arguments.add_argument("--params", default="params.yaml")
    arguments.add_argument("--training-rate", type=float, help="states/s, forward and backward")
    arguments.add_argument("--evaluation-rate", type=float, help="states/s, forward")
    arguments.add_argument("--overhead", type=float, default=ASSUMED_OVERHEAD, help="seconds a stage")
    arguments.add_argument("--archive-shape", type=int, nargs=3, default=(3, 32, 32), metavar=("C", "H", "W"))
    arguments.add_argument("--archive-test-images", type=int, default=10_000)
    arguments.add_argument("--fit", type=float, metavar="MINUTES", help="print how many checkpoints fit")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()

    from mlegfn.errors import UserError
    from reproduction.params import load

    try:
        scale = block_of(load(options.params), options.scale)
    except UserError as error:
        print(f"budget: {error}", file=sys.stderr)
        return 2
    shape = SHAPES.get(scale.data.source, tuple(options.archive_shape))
    rate = rates(scale, shape, options.training_rate, options.evaluation_rate)
    if options.fit is not None:
        print(fitting(scale, rate, options.overhead, options.fit, options.archive_test_images))
        return 0
    found = budget(scale, rate, options.overhead, archive_test_images=options.archive_test_images)
    if options.json:
        print(
            json.dumps(
                {"scale": options.scale, "rates": rate, "overhead": options.overhead, **found}, indent=1
            )
        )
        return 0
    print(f"scale {options.scale}; a forward pass of one state: {rate['flops']['forward'] / 1e9:.2f} GFLOP")
    print(
        f"{rate['training']:.0f} states/s in training, {rate['evaluation']:.0f} in evaluation: {rate['source']}"
    )
    print(f"{options.overhead:g} s of overhead a stage (assumed); stages one after the other\n")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
