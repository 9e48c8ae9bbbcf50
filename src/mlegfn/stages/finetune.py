"""Stage ``finetune``: a baseline checkpoint → the same trained on in one arm, saved at several points.

In:  data/<scale>, results/<scale>/checkpoints/pretrain-<step>
Out: results/<scale>/checkpoints/finetune-<step>-<arm>-<seed>/step-<n>, results/<scale>/metrics/finetune/….json
"""

import shutil

from mlegfn import paths
from mlegfn.artifacts import atomic_directory, write_json
from mlegfn.data import load_images
from mlegfn.stages.inputs import Resident, mean_errors
from mlegfn.training import distributed
from mlegfn.training.checkpoint import build_network, model_of, read_state, write_checkpoint
from mlegfn.training.device import device_of
from mlegfn.training.engine import place
from mlegfn.training.finetuning import arm_loss, finetune_gradient
from mlegfn.training.loop import train
from mlegfn.training.scratch import Scratch, fingerprint
from mlegfn.training.state import new_state


def run(scale_name, scale, step, arm, seed):
    settings, device = scale.finetune, device_of(scale)
    data = load_images(paths.data(scale_name))
    images = Resident(data.train_images, data.levels, device)
    network = place(build_network(scale, data.record), scale.engine, device)
    state = new_state(network, settings.optimizer)
    start = paths.pretrained(scale_name, step)
    record = read_state(start, state)
    state.step = 0  # counts fine-tuning steps from here on
    errors = record["epsilon_errors"]

    model = model_of(network, scale, data.levels, errors)
    variance = scale.diffusion.variance
    accumulate, evaluations = finetune_gradient(
        model, images, settings, arm, (step,), seed, scale.data.flip, errors, variance
    )
    logs = []
    scratch = Scratch(
        paths.results(
            scale_name, "scratch", f"finetune-{step}-{arm}-{seed}-{mark(scale_name, scale, start)}"
        ),
        scale.engine.save_every_minutes,
        logs,
        evaluations,
    )
    # A state beyond a point is of use only if what was to be written there has been.
    points = {point: scratch.points / f"step-{point}" for point in settings.evaluate_at}
    scratch.resume(state, lambda at: all(folder.exists() for point, folder in points.items() if point < at))
    for point, folder in points.items():
        if state.step > point:
            continue
        train(
            state,
            accumulate,
            settings.optimizer,
            point,
            after_step=lambda _, entry: logs.append(entry),
            description=f"{arm} from {step}, seed {seed}",
            saver=scratch,
        )
        errors, last = mean_errors(state, scale, data, images), point == settings.evaluate_at[-1]
        if distributed.is_first():
            write_checkpoint(folder, state, scale, data.record, errors, with_training_state=last)

    spent = evaluations.of_all_ranks()
    if distributed.is_first():
        with atomic_directory(paths.finetuned(scale_name, step, arm, seed)) as whole:
            for folder in points.values():
                shutil.copytree(folder, whole / folder.name)
        write_metrics(scale_name, settings, step, arm, seed, spent, logs)
        scratch.remove()
    distributed.wait()  # a rank that left would take the others' connection along


def write_metrics(scale_name, settings, step, arm, seed, spent, logs):
    likelihood, weight = arm_loss(arm, settings)
    write_json(
        paths.results(scale_name, "metrics", "finetune", f"{step}-{arm}-{seed}.json"),
        {
            "scale": scale_name,
            "checkpoint": step,
            "arm": arm,
            "seed": seed,
            "steps": settings.evaluate_at[-1],
            "likelihood_term": likelihood,
            "lambda": weight,
            "network_evaluations": {"forward": spent.forward, "backward": spent.backward},
            "images_seen": settings.evaluate_at[-1] * (settings.batch + settings.consistency.images),
            "log": logs,
        },
    )


def mark(scale_name, scale, start):
    """Fingerprint of all that a fine-tune from the checkpoint ``start`` depends on; arm and seed are in the name."""
    named = scale.model_dump(
        include={
            "engine": {"precision", "channels_last", "compile", "deterministic"},
            "network": ...,
            "diffusion": ...,
            "finetune": {"evaluate_at", "batch", "optimizer", "anchor", "consistency"},
            "data": {"flip"},
        }
    )
    return fingerprint(named, [paths.data(scale_name) / "images.safetensors"], [start])
