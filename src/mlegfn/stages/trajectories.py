"""Stage ``trajectories``: a fine-tuned model → what Figure 3 shows, paths x_T … x_0 and a sheet of samples.

In:  data/<scale>, results/<scale>/checkpoints/finetune-<step>-<arm>-<seed>
Out: results/<scale>/samples/trajectories.safetensors
"""

from mlegfn import paths
from mlegfn.artifacts import write_bytes
from mlegfn.data import load_images, to_levels
from mlegfn.diffusion.sampling import generate
from mlegfn.randomness import generator
from mlegfn.training.checkpoint import read_model
from mlegfn.training.device import device_of


def run(scale_name, scale):
    from safetensors.torch import save

    settings, device = scale.trajectories, device_of(scale)
    data = load_images(paths.data(scale_name))
    tuned = paths.finetuned(scale_name, settings.checkpoint, settings.arm, settings.finetune_seed)
    model = read_model(tuned / f"step-{scale.finetune.evaluate_at[-1]}", scale, device)
    count = max(settings.shown, settings.samples)
    draw = generator(settings.seed, "trajectories")
    states, times = generate(model, (count, *data.shape), settings.columns, draw, device)
    tensors = {
        "trajectories": states[:, : settings.shown].contiguous(),
        "times": times,
        "samples": to_levels(states[-1, : settings.samples], data.levels),
        "data": data.test_images[: settings.samples].contiguous(),
    }
    write_bytes(paths.results(scale_name, "samples", "trajectories.safetensors"), save(tensors))
