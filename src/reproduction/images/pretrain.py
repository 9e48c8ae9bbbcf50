"""Stage ``pretrain``: images → the baseline, saved at every checkpoint and at its end.

A part is the segment from one of these steps to the next.

In:  data/<scale>
Out: results/<scale>/images/checkpoints/baseline/<step>, results/<scale>/images/metrics/pretrain/<step>.json
"""

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
from reproduction.images.inputs import TRAINING, baseline, images_of, mean_errors, read_by
from reproduction.images.live import recorded


def run(stage):
    previous = None
    for step in stage.settings.pretrain.segments:
        part = part_of(stage, step, previous)
        if not part.finished:
            train_segment(stage, part, step, previous)
        previous = baseline(stage, step)


def part_of(stage, step, previous):
    """The ``Part`` of the segment up to ``step``; ``previous``: the checkpoint that it begins with, or None."""
    read = {**TRAINING, "pretrain": {"seed", "batch", "optimizer"}}
    return stage.part(
        str(step),
        outputs=[baseline(stage, step), metrics_file(stage, step)],
        settings=read_by(stage.settings, read, step=step),
        inputs=[stage.data, *([previous] if previous else [])],
    )


def metrics_file(stage, step):
    return stage.path("metrics", "pretrain", f"{step}.json")


def train_segment(stage, part, step, previous):
    settings, device = stage.settings, device_of(stage.settings)
    data = images_of(stage)
    images = Resident(data.train_images, data.levels, device)
    try:
        network = initial_network(settings, data.record, settings.pretrain.seed)
    except UserError as error:
        raise UserError(f"params.yaml: images.{stage.scale}: {error}") from None
    network = place(network, settings.compute, device)
    state = new_state(network, settings.pretrain.optimizer)
    if previous:
        read_state(previous, state)

    model = model_of(network, settings, data.levels)
    accumulate = pretrain_gradient(model, images, settings.pretrain, settings.data.flip)
    scratch = Scratch(part.scratch, settings.machine.save_every_minutes, logs=[])
    scratch.resume(state)
    with recorded(stage, part.name, state, scratch) as (after_step, saver):
        train(
            state,
            accumulate,
            settings.pretrain.optimizer,
            step,
            after_step=after_step,
            description=f"pretrain to {step}",
            saver=saver,
        )
    errors = mean_errors(state, settings, data, images)
    if distributed.is_first():
        write_checkpoint(baseline(stage, step), state, settings, data.record, errors)
        write_metrics(stage, network, step, scratch.logs)
        part.finish()
    distributed.wait()  # a rank that left would take the others' connection along


def write_metrics(stage, network, step, logs):
    evaluated = step * stage.settings.pretrain.batch
    write_json(
        metrics_file(stage, step),
        {
            "scale": stage.scale,
            "step": step,
            "parameters": sum(p.numel() for p in network.parameters()),
            "network_evaluations": {"forward": evaluated, "backward": evaluated},
            "log": logs,
        },
    )
