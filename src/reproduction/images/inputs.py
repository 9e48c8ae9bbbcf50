"""What several stages of the image experiment have in common: where checkpoints lie, images, variances."""

import torch

from mlegfn.data import load_images
from mlegfn.errors import UserError
from mlegfn.randomness import generator

__all__ = [
    "EVALUATION",
    "TRAINING",
    "baseline",
    "finetuned",
    "images_of",
    "mean_errors",
    "models_of",
    "read_by",
    "splits",
]

# The settings behind a trained or an evaluated network, beside those of the training or the measurement itself.
TRAINING = {
    "compute": {"precision", "evaluation", "channels_last", "compile", "deterministic"},
    "data": {"flip", "validation"},
    "network": True,
    "diffusion": True,
    "nll": {"batch"},  # of the variances' estimate
}
EVALUATION = {
    "compute": {"evaluation", "channels_last", "compile", "deterministic"},
    "network": True,
    "diffusion": True,
}


def read_by(settings, include, **own):
    """The fingerprint's settings of a part: those that ``include`` (``TRAINING``, ``EVALUATION``) names and ``own``."""
    return {**settings.model_dump(mode="json", include=include), **own}


def baseline(stage, step, seed):
    """The checkpoint at ``step`` of the baseline that was pretrained with ``seed``."""
    return stage.path("checkpoints", "baseline", f"{step}-{seed}")


def finetuned(stage, arm, step, seed):
    """The folder of one fine-tune of that checkpoint; what was saved after n steps lies in step-<n>."""
    return stage.path("checkpoints", arm, f"{step}-{seed}")


def models_of(stage, arm, step, seed):
    """{fine-tuning step: folder} of the checkpoints of one run; of the baseline, its checkpoint at ``step`` as 0."""
    if arm == "baseline":
        return {0: baseline(stage, step, seed)}
    folder = finetuned(stage, arm, step, seed)
    return {point: folder / f"step-{point}" for point in stage.settings.finetune.all.evaluate_at}


def images_of(stage):
    """The scale's ``Images``, as the stage ``fetch`` wrote them."""
    return load_images(stage.input(stage.data))


def splits(stage):
    """(the scale's ``Images`` without the validation images, the validation images uint8 [V, C, H, W]).

    These are drawn from the training images once for all seeds, and no model is trained on them.
    """
    data, count = images_of(stage), stage.settings.data.validation
    try:
        return data.split(count, generator(0, "validation"))
    except ValueError as error:
        raise UserError(f"params.yaml: images.{stage.scale}.data.validation: {error}") from None


def mean_errors(state, settings, data, images):
    """[T] E‖ε − ε_θ‖²/d of the EMA network on the first training images, or None where nothing needs it.

    Each rank evaluates its share of the images; every rank has to ask.
    """
    from mlegfn.diffusion.likelihood import epsilon_errors
    from mlegfn.training import distributed
    from mlegfn.training.checkpoint import build_network, model_of
    from mlegfn.training.compute import place

    if settings.diffusion.variance != "analytic":
        return None
    averaged = build_network(settings, data.record)
    averaged.load_state_dict(state.ema_weights())
    model = model_of(place(averaged.eval(), settings.compute, images.device), settings, data.levels)
    count = min(settings.diffusion.variance_samples, len(images))
    mine = distributed.share(count)
    batch, parts = settings.nll.batch, []
    group = max(1, 8 * batch // model.timesteps)  # images at once, whose T noises each are in memory together
    for start in range(mine.start, mine.stop, group):
        some = images[start : min(start + group, mine.stop)]
        parts.append(epsilon_errors(model, some, batch=batch, first_index=start))
    gathered = [part for parts in distributed.gather(parts) for part in parts]
    return torch.cat(gathered, dim=1).mean(1).tolist()
