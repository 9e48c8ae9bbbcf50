"""Stage ``finetune``: the baseline's checkpoints → each trained on in one arm, saved at several points.

A part is one checkpoint with one seed.

In:  data/<scale>, results/<scale>/images/checkpoints/baseline
Out: results/<scale>/images/checkpoints/<arm>/<step>-<seed>/step-<n>,
     results/<scale>/images/metrics/finetune/<arm>/<step>-<seed>.json
"""

import shutil

from mlegfn.artifacts import atomic_directory, write_json
from mlegfn.data.resident import Resident
from mlegfn.training import distributed
from mlegfn.training.checkpoint import build_network, model_of, read_state, write_checkpoint
from mlegfn.training.compute import place
from mlegfn.training.device import device_of
from mlegfn.training.finetuning import arm_loss, finetune_gradient
from mlegfn.training.loop import train
from mlegfn.training.scratch import Scratch
from mlegfn.training.state import new_state
from reproduction.images.inputs import TRAINING, baseline, finetuned, images_of, mean_errors, read_by
from reproduction.images.live import recorded


def run(stage, arm):
    parts = {
        (step, seed): part_of(stage, arm, step, seed)
        for step in stage.settings.pretrain.checkpoints
        for seed in stage.settings.finetune.all.seeds
    }
    unfinished = {key: part for key, part in parts.items() if not part.finished}
    if not unfinished:
        return
    device, data = device_of(stage.settings), images_of(stage)
    images = Resident(data.train_images, data.levels, device)
    for (step, seed), part in unfinished.items():
        train_arm(stage, part, arm, step, seed, data, images)


def part_of(stage, arm, step, seed):
    """The ``Part`` of one fine-tune. Of ``finetune`` it depends on what this arm reads, and on nothing else."""
    own = {
        "arm": arm,
        "checkpoint": step,
        "seed": seed,
        "evaluate_at": stage.settings.finetune.all.evaluate_at,
        "finetune": stage.settings.finetune.arm(arm).model_dump(mode="json"),
    }
    return stage.part(
        f"{step}-{seed}",
        outputs=[finetuned(stage, arm, step, seed), metrics_file(stage, arm, step, seed)],
        settings=read_by(stage.settings, TRAINING, **own),
        inputs=[stage.data, baseline(stage, step)],
    )


def metrics_file(stage, arm, step, seed):
    return stage.path("metrics", "finetune", arm, f"{step}-{seed}.json")


def train_arm(stage, part, arm, step, seed, data, images):
    settings, ends = stage.settings, stage.settings.finetune.all.evaluate_at
    of_arm = settings.finetune.arm(arm)
    network = place(build_network(settings, data.record), settings.compute, images.device)
    state = new_state(network, of_arm.optimizer)
    record = read_state(baseline(stage, step), state)
    state.step = 0  # counts fine-tuning steps from here on
    errors = record["epsilon_errors"]

    model = model_of(network, settings, data.levels, errors)
    variance = settings.diffusion.variance
    accumulate, evaluations = finetune_gradient(
        model, images, of_arm, arm, (step,), seed, settings.data.flip, errors, variance
    )
    scratch = Scratch(part.scratch, settings.machine.save_every_minutes, [], evaluations)
    # A state beyond a point is of use only if what was to be written there has been.
    points = {point: scratch.points / f"step-{point}" for point in ends}
    scratch.resume(state, lambda at: all(folder.exists() for point, folder in points.items() if point < at))
    with recorded(stage, part.name, state, scratch) as (after_step, saver):
        for point, folder in points.items():
            if state.step > point:
                continue
            train(
                state,
                accumulate,
                of_arm.optimizer,
                point,
                after_step=after_step,
                description=f"{arm} from {step}, seed {seed}",
                saver=saver,
            )
            errors = mean_errors(state, settings, data, images)
            if distributed.is_first():
                write_checkpoint(
                    folder, state, settings, data.record, errors, with_training_state=point == ends[-1]
                )

    spent = evaluations.of_all_ranks()
    if distributed.is_first():
        with atomic_directory(finetuned(stage, arm, step, seed)) as whole:
            for folder in points.values():
                shutil.copytree(folder, whole / folder.name)
        write_metrics(stage, arm, step, seed, of_arm, spent, scratch.logs)
        part.finish()
    distributed.wait()  # a rank that left would take the others' connection along


def write_metrics(stage, arm, step, seed, of_arm, spent, logs):
    likelihood, weight = arm_loss(arm, of_arm)
    steps = stage.settings.finetune.all.evaluate_at[-1]
    write_json(
        metrics_file(stage, arm, step, seed),
        {
            "scale": stage.scale,
            "checkpoint": step,
            "arm": arm,
            "seed": seed,
            "steps": steps,
            "likelihood_term": likelihood,
            "lambda": weight,
            "network_evaluations": {"forward": spent.forward, "backward": spent.backward},
            "images_seen": steps * (of_arm.batch + of_arm.consistency.images),
            "log": logs,
        },
    )
