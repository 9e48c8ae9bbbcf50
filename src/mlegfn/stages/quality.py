"""Stage ``quality``: one model → how far its samples are from test images, beside the floor of that number.

In:  data/<scale>, a baseline checkpoint or the last point of one fine-tune
Out: results/<scale>/metrics/quality/<run>.json, run = baseline-<step> or <step>-<arm>-<seed>
"""

from mlegfn import paths
from mlegfn.artifacts import write_json
from mlegfn.data import load_images
from mlegfn.quality import draw, measure
from mlegfn.training.checkpoint import read_model
from mlegfn.training.device import device_of


def run(scale_name, scale, step, arm, seed=None):
    settings, device = scale.quality, device_of(scale)
    data = load_images(paths.data(scale_name))
    if arm == "baseline":
        run_name, point, folder = f"baseline-{step}", 0, paths.pretrained(scale_name, step)
    else:
        run_name, point = f"{step}-{arm}-{seed}", scale.finetune.evaluate_at[-1]
        folder = paths.finetuned(scale_name, step, arm, seed) / f"step-{point}"
    model = read_model(folder, scale, device)
    measured = measure(
        lambda count: draw(model, count, data.shape, data.levels, settings.seed, device),
        data,
        settings,
        device,
    )
    print(f"{run_name}: sliced Wasserstein {measured['sliced_wasserstein']['pixels']:.4f} on pixels")
    write_json(
        paths.results(scale_name, "metrics", "quality", f"{run_name}.json"),
        {
            "scale": scale_name,
            "checkpoint": step,
            "arm": arm,
            "seed": seed,
            "step": step + point,
            "finetune_step": point,
            "levels": data.levels,
            "timesteps": scale.diffusion.timesteps,
            **measured,
        },
    )
