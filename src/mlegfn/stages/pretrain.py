"""Stage ``pretrain``: images and the checkpoint before → the baseline's checkpoint at ``step``.

In:  data/<scale>, results/<scale>/checkpoints/pretrain-<previous> (none for the first segment)
Out: results/<scale>/checkpoints/pretrain-<step>, results/<scale>/metrics/pretrain/<step>.json
"""

from mlegfn import paths
from mlegfn.artifacts import write_json
from mlegfn.data import load_images
from mlegfn.stages.inputs import Resident, mean_errors
from mlegfn.training import distributed
from mlegfn.training.checkpoint import initial_network, model_of, read_state, write_checkpoint
from mlegfn.training.device import device_of
from mlegfn.training.engine import place
from mlegfn.training.loop import train
from mlegfn.training.pretraining import pretrain_gradient
from mlegfn.training.scratch import Scratch, fingerprint
from mlegfn.training.state import new_state


def run(scale_name, scale, step):
    settings, device = scale.pretrain, device_of(scale)
    data = load_images(paths.data(scale_name))
    images = Resident(data.train_images, data.levels, device)
    network = place(initial_network(scale, data.record, settings.seed), scale.engine, device)
    state = new_state(network, settings.optimizer)
    previous = [paths.pretrained(scale_name, s) for s in settings.segments if s < step][-1:]
    for folder in previous:
        read_state(folder, state)

    model = model_of(network, scale, data.levels)
    accumulate = pretrain_gradient(model, images, settings, scale.data.flip)
    named = scale.model_dump(
        include={
            "engine": {"precision", "channels_last", "compile", "deterministic"},
            "network": ...,
            "diffusion": ...,
            "pretrain": {"seed", "batch", "optimizer"},
            "data": {"flip"},
        }
    )
    mark = fingerprint([step, named], [paths.data(scale_name) / "images.safetensors"], previous)
    folder, logs = paths.results(scale_name, "scratch", f"pretrain-{step}-{mark}"), []
    scratch = Scratch(folder, scale.engine.save_every_minutes, logs)
    scratch.resume(state)
    train(
        state,
        accumulate,
        settings.optimizer,
        step,
        after_step=lambda _, entry: logs.append(entry),
        description=f"pretrain to {step}",
        saver=scratch,
    )
    errors = mean_errors(state, scale, data, images)
    if distributed.is_first():
        write_checkpoint(paths.pretrained(scale_name, step), state, scale, data.record, errors)
        write_metrics(scale_name, settings, network, step, logs)
        scratch.remove()
    distributed.wait()  # a rank that left would take the others' connection along


def write_metrics(scale_name, settings, network, step, logs):
    evaluated = step * settings.batch
    write_json(
        paths.results(scale_name, "metrics", "pretrain", f"{step}.json"),
        {
            "scale": scale_name,
            "step": step,
            "parameters": sum(p.numel() for p in network.parameters()),
            "network_evaluations": {"forward": evaluated, "backward": evaluated},
            "log": logs,
        },
    )
