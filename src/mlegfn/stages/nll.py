"""Stage ``nll``: checkpoints → test bits/dim, per image and per t.

In:  data/<scale>, a baseline checkpoint or every point of one fine-tune
Out: results/<scale>/metrics/nll/<run>.json, run = baseline-<step> or <step>-<arm>-<seed>
"""

from mlegfn import paths
from mlegfn.artifacts import write_json
from mlegfn.data import load_images
from mlegfn.diffusion.likelihood import bits_per_dim
from mlegfn.stages.inputs import unit_images
from mlegfn.training.checkpoint import read_model
from mlegfn.training.device import device_of


def run(scale_name, scale, step, arm, seed=None):
    device = device_of(scale)
    data = load_images(paths.data(scale_name))
    images = unit_images(data.test_images, data.levels, device)
    if arm == "baseline":
        run_name, folders = f"baseline-{step}", {0: paths.pretrained(scale_name, step)}
    else:
        tuned = paths.finetuned(scale_name, step, arm, seed)
        run_name = f"{step}-{arm}-{seed}"
        folders = {point: tuned / f"step-{point}" for point in scale.finetune.evaluate_at}

    points = []
    for finetune_step, folder in folders.items():
        model = read_model(folder, scale, device)
        measured = bits_per_dim(model, images, scale.nll.seed, scale.nll.batch)
        points.append({"step": step + finetune_step, "finetune_step": finetune_step, **summary(measured)})
        print(f"{run_name} at {step}+{finetune_step}: {points[-1]['bits_per_dim']:.4f} bits/dim")
    write_json(
        paths.results(scale_name, "metrics", "nll", f"{run_name}.json"),
        {
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
            "network_evaluations_per_image": scale.diffusion.timesteps,
            "points": points,
        },
    )


def summary(measured):
    """One point's JSON fields from a ``BitsPerDim``."""
    count = len(measured.per_image)
    return {
        "bits_per_dim": measured.per_image.mean().item(),
        "standard_error": measured.per_image.std().item() / count**0.5 if count > 1 else None,
        "bits_per_dim_clipped": measured.per_image_clipped.mean().item(),
        "per_image": measured.per_image.tolist(),
        "terms": measured.terms.tolist(),
    }
