"""Stage ``pretrain``: images → a baseline a seed, saved at every checkpoint and at its end.

A part is the segment of one of them from one of these steps to the next.

In:  data/<scale>
Out: results/<scale>/images/checkpoints/baseline/<step>-<seed>, results/<scale>/images/metrics/pretrain/<step>-<seed>.json
"""

from types import SimpleNamespace

from mlegfn.artifacts import write_json
from mlegfn.data.resident import Resident
from mlegfn.errors import UserError
from mlegfn.training import distributed
from mlegfn.training.checkpoint import initial_network, model_of, read_state, write_checkpoint
from mlegfn.training.compute import place
from mlegfn.training.device import device_of
from mlegfn.training.loop import train
from mlegfn.training.pretraining import pretrain_gradient
from mlegfn.training.scratch import Scratch
from mlegfn.training.state import new_state
from reproduction.images.inputs import TRAINING, baseline, mean_errors, read_by, splits
from reproduction.images.live import recorded


def run(stage):
    for seed in stage.settings.pretrain.seeds:
        previous = None
        for step in stage.settings.pretrain.segments:
            part = part_of(stage, step, seed, previous)
            if not part.finished:
                train_segment(stage, part, step, seed, previous)
            previous = baseline(stage, step, seed)


def part_of(stage, step, seed, previous):
    """The ``Part`` of the segment up to ``step``; ``previous``: the checkpoint that it begins with, or None."""
    read = {**TRAINING, "pretrain": {"batch", "optimizer"}}
    return stage.part(
        f"{step}-{seed}",
        outputs=[baseline(stage, step, seed), metrics_file(stage, step, seed)],
        settings=read_by(stage.settings, read, step=step, seed=seed),
        inputs=[stage.data, *([previous] if previous else [])],
    )


def metrics_file(stage, step, seed):
    return stage.path("metrics", "pretrain", f"{step}-{seed}.json")


def train_segment(stage, part, step, seed, previous):
    settings, device = stage.settings, device_of(stage.settings)
    data, _ = splits(stage)
    images = Resident(data.train_images, data.levels, device)
    try:
        network = initial_network(settings, data.record, seed)
    except UserError as error:
        raise UserError(f"params.yaml: images.{stage.scale}: {error}") from None
    network = place(network, settings.compute, device)
    state = new_state(network, settings.pretrain.optimizer)
    if previous:
        read_state(previous, state)

    model = model_of(network, settings, data.levels)
    own = SimpleNamespace(seed=seed, batch=settings.pretrain.batch)
    accumulate = pretrain_gradient(model, images, own, settings.data.flip)
    scratch = Scratch(part.scratch, settings.machine.save_every_minutes, logs=[])
    scratch.resume(state)
    with recorded(stage, part.name, state, scratch) as (after_step, saver):
        train(
            state,
            accumulate,
            settings.pretrain.optimizer,
            step,
            after_step=after_step,
            description=f"pretrain to {step}, seed {seed}",
            saver=saver,
        )
    errors = mean_errors(state, settings, data, images)
    if distributed.is_first():
        write_checkpoint(part.outputs[0], state, settings, data.record, errors)
        write_metrics(stage, network, step, seed, scratch.logs)
        part.finish()
    distributed.wait()  # a rank that left would take the others' connection along


def write_metrics(stage, network, step, seed, logs):
    evaluated = step * stage.settings.pretrain.batch
    write_json(
        metrics_file(stage, step, seed),
        {
            "scale": stage.scale,
            "step": step,
            "seed": seed,
            "parameters": sum(p.numel() for p in network.parameters()),
            "network_evaluations": {"forward": evaluated, "backward": evaluated},
            "log": logs,
        },
    )
