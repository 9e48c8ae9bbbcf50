"""What several stages of the image experiment have in common: where checkpoints lie, images, variances."""

import torch

from mlegfn.data import load_images

__all__ = [
    "EVALUATION",
    "TRAINING",
    "baseline",
    "finetuned",
    "images_of",
    "mean_errors",
    "models_of",
    "read_by",
    "run_name",
]

# The settings behind a trained or an evaluated network, beside those of the training or the measurement itself.
TRAINING = {
    "compute": {"precision", "evaluation", "channels_last", "compile", "deterministic"},
    "data": {"flip"},
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


def baseline(stage, step):
    """The baseline's checkpoint at ``step``."""
    return stage.path("checkpoints", "baseline", step)


def finetuned(stage, arm, step, seed):
    """The folder of one fine-tune from the checkpoint ``step``; what was saved after n steps lies in step-<n>."""
    return stage.path("checkpoints", arm, f"{step}-{seed}")


def run_name(arm, step, seed=None):
    """What the metrics of sample quality call a model: ``baseline-<step>`` or ``<step>-<arm>-<seed>``."""
    return f"baseline-{step}" if arm == "baseline" else f"{step}-{arm}-{seed}"


def models_of(stage, arm, step, seed=None):
    """{fine-tuning step: folder} of the checkpoints of one run; of the baseline, its checkpoint at ``step`` as 0."""
    if arm == "baseline":
        return {0: baseline(stage, step)}
    folder = finetuned(stage, arm, step, seed)
    return {point: folder / f"step-{point}" for point in stage.settings.finetune.all.evaluate_at}


def images_of(stage):
    """The scale's ``Images``, as the stage ``fetch`` wrote them."""
    return load_images(stage.input(stage.data))


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
