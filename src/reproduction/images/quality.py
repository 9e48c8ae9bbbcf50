"""Stage ``quality``: models → how far their samples are from test images, beside the floor of that number.

The models, a part each: the baseline at the checkpoint that Figure 3 shows, and the last point of each arm that was
fine-tuned from there with its seed.

In:  data/<scale>, results/<scale>/images/checkpoints
Out: results/<scale>/images/metrics/quality/<arm or baseline>.json
"""

from mlegfn.artifacts import write_json
from mlegfn.errors import UserError
from mlegfn.quality import draw, measure
from mlegfn.training.checkpoint import read_model
from mlegfn.training.device import device_of
from reproduction.images.inputs import EVALUATION, images_of, models_of, read_by

NOT_MEASURED = "not measured: quality.inception in params.yaml names no weights file"


def run(stage):
    shown, parts = stage.settings.trajectories, {}
    for arm in ("baseline", *stage.items):
        parts[arm] = part_of(stage, arm, shown.checkpoint, shown.pretrain_seed)
    unfinished = {key: part for key, part in parts.items() if not part.finished}
    if not unfinished:
        return
    device, data = device_of(stage.settings), images_of(stage)
    for arm, part in unfinished.items():
        record = measure_model(stage, arm, shown.checkpoint, shown.pretrain_seed, data, device)
        write_json(part.outputs[0], record)
        part.finish()


def last_point(stage, arm, step, seed):
    """(fine-tuning step, folder) of the model at the end of a run."""
    return list(models_of(stage, arm, step, seed).items())[-1]


def part_of(stage, arm, step, seed):
    """The ``Part`` of one model."""
    point, folder = last_point(stage, arm, step, seed)
    own = {"arm": arm, "checkpoint": step, "seed": seed, "point": point}
    return stage.part(
        arm,
        outputs=[stage.path("metrics", "quality", f"{arm}.json")],
        settings=read_by(stage.settings, {**EVALUATION, "quality": True}, **own),
        inputs=[stage.data, folder],
    )


def measure_model(stage, arm, step, seed, data, device):
    """The JSON of one model."""
    settings, (point, folder) = stage.settings.quality, last_point(stage, arm, step, seed)
    model = read_model(folder, stage.settings, device)

    def sample(count):
        return draw(model, count, data.shape, data.levels, settings.seed, device)

    try:
        measured = measure(sample, data, settings, device)
    except UserError as error:  # of the Inception weights
        raise UserError(f"params.yaml: images.{stage.scale}.quality: {error}") from None
    distance = measured["sliced_wasserstein"]["pixels"]
    print(f"{arm}: sliced Wasserstein {distance:.4f} on pixels")
    return {
        "scale": stage.scale,
        "checkpoint": step,
        "arm": arm,
        "seed": seed,
        "step": step + point,
        "finetune_step": point,
        "levels": data.levels,
        "timesteps": stage.settings.diffusion.timesteps,
        **measured,
        "why": None if settings.inception else NOT_MEASURED,
    }
