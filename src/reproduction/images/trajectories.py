"""Stage ``trajectories``: a fine-tuned model → what Figure 3 shows, paths x_T … x_0 and a sheet of samples.

In:  data/<scale>, results/<scale>/images/checkpoints/<arm>
Out: results/<scale>/images/samples/trajectories.safetensors
"""

from safetensors.torch import save

from mlegfn.artifacts import write_bytes
from mlegfn.data import to_levels
from mlegfn.diffusion.sampling import generate
from mlegfn.randomness import generator
from mlegfn.training.checkpoint import read_model
from mlegfn.training.device import device_of
from reproduction.images.inputs import images_of, models_of


def run(stage):
    settings, device = stage.settings.trajectories, device_of(stage.settings)
    data = images_of(stage)
    points = models_of(stage, settings.arm, settings.checkpoint, settings.pretrain_seed)
    folder = points[stage.settings.finetune.all.evaluate_at[-1]]
    model = read_model(stage.input(folder), stage.settings, device)
    count = max(settings.shown, settings.samples)
    draw = generator(settings.seed, "trajectories")
    states, times = generate(model, (count, *data.shape), settings.columns, draw, device)
    tensors = {
        "trajectories": states[:, : settings.shown].contiguous(),
        "times": times,
        "samples": to_levels(states[-1, : settings.samples], data.levels),
        "data": data.test_images[: settings.samples].contiguous(),
    }
    write_bytes(stage.path("samples", "trajectories.safetensors"), save(tensors))
