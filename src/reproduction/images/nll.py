"""Stage ``nll``: the checkpoints of one model → test bits/dim, per image and per t.

A model is ``baseline`` or an arm; a part is one of its runs: a step of the baseline, or every point of one fine-tune.

In:  data/<scale>, results/<scale>/images/checkpoints/<model>
Out: results/<scale>/images/metrics/nll/baseline/<step>.json or …/nll/<arm>/<step>-<seed>.json
"""

import torch

from mlegfn.artifacts import write_json
from mlegfn.data.resident import unit_images
from mlegfn.diffusion.likelihood import bound_table, reduce_table
from mlegfn.diffusion.stratified import allocation, design, join, reduce_terms, sampled_terms
from mlegfn.errors import UserError
from mlegfn.training import distributed
from mlegfn.training.checkpoint import process_of, read_model
from mlegfn.training.device import device_of
from reproduction.images.inputs import EVALUATION, images_of, models_of, read_by, run_name


def run(stage, model):
    pretrain, seeds = stage.settings.pretrain, stage.settings.finetune.all.seeds
    if model == "baseline":
        runs = [(step, None) for step in pretrain.segments]
    else:
        runs = [(step, seed) for step in pretrain.checkpoints for seed in seeds]
    parts = {key: part_of(stage, model, *key) for key in runs}
    unfinished = {key: part for key, part in parts.items() if not part.finished}
    if not unfinished:
        return
    device, data = device_of(stage.settings), images_of(stage)
    images = unit_images(data.test_images, data.levels, device)
    check(stage, len(images))
    for (step, seed), part in unfinished.items():
        record = measure_run(stage, model, step, seed, images, data.levels)
        if distributed.is_first():
            write_json(part.outputs[0], record)
            part.finish()
        distributed.wait()  # a rank that left would take the others' connection along


def part_of(stage, model, step, seed):
    """The ``Part`` of one run."""
    folders = models_of(stage, model, step, seed)
    name = str(step) if seed is None else f"{step}-{seed}"
    own = {"model": model, "checkpoint": step, "seed": seed, "points": list(folders)}
    return stage.part(
        name,
        outputs=[stage.path("metrics", "nll", model, f"{name}.json")],
        settings=read_by(stage.settings, {**EVALUATION, "nll": True}, **own),
        inputs=[stage.data, *folders.values()],
    )


def measure_run(stage, arm, step, seed, images, levels):
    """The JSON of one run, measured at each of its points."""
    settings, name, points = stage.settings, run_name(arm, step, seed), []
    for finetune_step, folder in models_of(stage, arm, step, seed).items():
        model = read_model(folder, settings, images.device)
        measured = measure(model, images, settings.nll, f"NLL of {name} at {step}+{finetune_step}")
        points.append({"step": step + finetune_step, "finetune_step": finetune_step, **summary(measured)})
        if not distributed.is_first():
            continue
        error = f" ± {measured.standard_error:.4f} from sampling t" if measured.standard_error else ""
        print(f"{name} at {step}+{finetune_step}: {points[-1]['bits_per_dim']:.4f} bits/dim{error}")
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
    }


def check(stage, images):
    """A UserError, before anything is evaluated, if the estimator cannot do with so few evaluations."""
    settings = stage.settings
    if settings.nll.estimator == "full":
        return
    try:
        allocation(process_of(settings.diffusion), images, settings.nll.evaluations)
    except ValueError as error:
        raise UserError(f"params.yaml: images.{stage.scale}.nll.evaluations: {error}") from None


def measure(model, images, settings, description):
    """``BitsPerDim`` of one model by the estimator of ``settings`` (the block ``nll``), each rank doing its images.

    Every rank has to ask, and there have to be as many images as ranks.
    """
    mine, dims = distributed.share(len(images)), images[0].numel()
    own, options = images[mine], {"first_index": mine.start, "description": description}
    if settings.estimator == "full":
        part = bound_table(model, own, settings.seed, settings.batch, **options)
        return reduce_table(*(torch.cat(tables, 1) for tables in zip(*distributed.gather(part))), dims)
    plan = design(model.process, len(images), settings.evaluations, settings.seed)
    part = sampled_terms(model, own, plan, settings.seed, settings.batch, **options)
    return reduce_terms(plan, join(distributed.gather(part)), dims)


def summary(measured):
    """One point's JSON fields from a ``BitsPerDim``.

    ``standard_error`` is over images, what t were left out included; ``estimator_standard_error`` is of the
    second part alone, against the full sum over t on these images.
    """
    count = len(measured.per_image)
    return {
        "bits_per_dim": measured.per_image.mean().item(),
        "standard_error": measured.per_image.std().item() / count**0.5 if count > 1 else None,
        "estimator_standard_error": measured.standard_error,
        "bits_per_dim_clipped": measured.per_image_clipped.mean().item(),
        "estimator_standard_error_clipped": measured.standard_error_clipped,
        "per_image": measured.per_image.tolist(),
        "terms": measured.terms.tolist(),
    }
