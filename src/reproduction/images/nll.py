"""Stage ``nll``: every fine-tune of one arm → test bits/dim, per image and per t; of the last checkpoint, log p too.

A part is one fine-tune, with all its points.

In:  data/<scale>, results/<scale>/images/checkpoints/<arm>
Out: results/<scale>/images/metrics/nll/<arm>/<step>-<seed>.json
"""

from mlegfn.artifacts import write_json
from mlegfn.data.resident import unit_images
from mlegfn.training import distributed
from mlegfn.training.checkpoint import read_model
from mlegfn.training.device import device_of
from reproduction.images.inputs import EVALUATION, images_of, models_of, read_by
from reproduction.images.measuring import check, log_p, measure, summary


def run(stage, arm):
    measure_runs(stage, arm, stage.settings.pretrain.checkpoints)


def measure_runs(stage, arm, steps):
    """Measure what is not measured yet of the runs of an arm, or of ``baseline``, at ``steps``."""
    seeds = stage.settings.pretrain.seeds
    parts = {(step, seed): part_of(stage, arm, step, seed) for step in steps for seed in seeds}
    unfinished = {key: part for key, part in parts.items() if not part.finished}
    if not unfinished:
        return
    device, data = device_of(stage.settings), images_of(stage)
    images = unit_images(data.test_images, data.levels, device)
    check(stage, len(images))
    for (step, seed), part in unfinished.items():
        record = measure_run(stage, arm, step, seed, images, data.levels)
        if distributed.is_first():
            write_json(part.outputs[0], record)
            part.finish()
        distributed.wait()  # a rank that left would take the others' connection along


def part_of(stage, arm, step, seed):
    """The ``Part`` of one run."""
    folders, name = models_of(stage, arm, step, seed), f"{step}-{seed}"
    own = {
        "model": arm,
        "checkpoint": step,
        "seed": seed,
        "points": list(folders),
        "nll": stage.settings.nll.model_dump(exclude=None if with_log_p(stage, step) else {"log_p"}),
    }
    return stage.part(
        name,
        outputs=[stage.path("metrics", "nll", arm, f"{name}.json")],
        settings=read_by(stage.settings, EVALUATION, **own),
        inputs=[stage.data, *folders.values()],
    )


def with_log_p(stage, step):
    """Whether log p is estimated of the runs from the checkpoint ``step``."""
    return step == stage.settings.pretrain.checkpoints[-1]


def measure_run(stage, arm, step, seed, images, levels):
    """The JSON of one run, measured at each of its points."""
    settings, points = stage.settings, []
    for finetune_step, folder in models_of(stage, arm, step, seed).items():
        model = read_model(folder, settings, images.device)
        name = f"{arm} {step}+{finetune_step}, seed {seed}"
        measured = measure(model, images, settings.nll, f"NLL of {name}")
        points.append({"step": step + finetune_step, "finetune_step": finetune_step, **summary(measured)})
        if not distributed.is_first():
            continue
        error = f" ± {measured.standard_error:.4f} from sampling t" if measured.standard_error else ""
        print(f"{name}: {points[-1]['bits_per_dim']:.4f} bits/dim{error}")
    return {
        "scale": stage.scale,
        "checkpoint": step,
        "arm": arm,
        "seed": seed,
        "levels": levels,
        "dims": images[0].numel(),
        "images": len(images),
        "timesteps": settings.diffusion.timesteps,
        "decoder": settings.diffusion.decoder,
        "variance": settings.diffusion.variance,
        "estimator": settings.nll.estimator,
        "network_evaluations_per_image": measured.evaluations,
        "points": points,
        "log_p": log_p(model, images, settings.nll.log_p, settings.nll.seed)
        if with_log_p(stage, step)
        else None,
    }
