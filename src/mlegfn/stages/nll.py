"""Stage ``nll``: checkpoints → test bits/dim, per image and per t.

In:  data/<scale>, a baseline checkpoint or every point of one fine-tune
Out: results/<scale>/metrics/nll/<run>.json, run = baseline-<step> or <step>-<arm>-<seed>
"""

import torch

from mlegfn import paths
from mlegfn.artifacts import write_json
from mlegfn.data import load_images
from mlegfn.diffusion.likelihood import bound_table, reduce_table
from mlegfn.diffusion.stratified import allocation, design, join, reduce_terms, sampled_terms
from mlegfn.errors import UserError
from mlegfn.stages.inputs import unit_images
from mlegfn.training import distributed
from mlegfn.training.checkpoint import process_of, read_model
from mlegfn.training.device import device_of


def run(scale_name, scale, step, arm, seed=None):
    device = device_of(scale)
    data = load_images(paths.data(scale_name))
    images = unit_images(data.test_images, data.levels, device)
    check(scale_name, scale, len(images))
    if arm == "baseline":
        run_name, folders = f"baseline-{step}", {0: paths.pretrained(scale_name, step)}
    else:
        tuned = paths.finetuned(scale_name, step, arm, seed)
        run_name = f"{step}-{arm}-{seed}"
        folders = {point: tuned / f"step-{point}" for point in scale.finetune.evaluate_at}

    points = []
    for finetune_step, folder in folders.items():
        model = read_model(folder, scale, device)
        measured = measure(model, images, scale.nll, f"NLL of {run_name} at {step}+{finetune_step}")
        points.append({"step": step + finetune_step, "finetune_step": finetune_step, **summary(measured)})
        if not distributed.is_first():
            continue
        error = f" ± {measured.standard_error:.4f} from sampling t" if measured.standard_error else ""
        print(f"{run_name} at {step}+{finetune_step}: {points[-1]['bits_per_dim']:.4f} bits/dim{error}")
    record = {
        "scale": scale_name,
        "checkpoint": step,
        "arm": arm,
        "seed": seed,
        "levels": data.levels,
        "dims": images[0].numel(),
        "images": len(images),
        "timesteps": scale.diffusion.timesteps,
        "decoder": scale.diffusion.decoder,
        "variance": scale.diffusion.variance,
        "estimator": scale.nll.estimator,
        "network_evaluations_per_image": measured.evaluations,
        "points": points,
    }
    if distributed.is_first():
        write_json(paths.results(scale_name, "metrics", "nll", f"{run_name}.json"), record)
    distributed.wait()  # a rank that left would take the others' connection along


def check(scale_name, scale, images):
    """A UserError, before anything is evaluated, if the estimator cannot do with so few evaluations."""
    if scale.nll.estimator == "full":
        return
    try:
        allocation(process_of(scale.diffusion), images, scale.nll.evaluations)
    except ValueError as error:
        raise UserError(f"params.yaml: scales.{scale_name}.nll.evaluations: {error}") from None


def measure(model, images, settings, description):
    """``BitsPerDim`` of one model by the estimator of ``settings`` (config.Nll), each rank doing its images.

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
