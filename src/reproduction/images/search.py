"""The choice of an arm's settings: each combination trained from one checkpoint, and measured on validation images.

Every arm tries equally many, from the same checkpoint with the same data and noise; the lowest validation NLL is chosen.
Test images are not read.
"""

import math

from mlegfn.artifacts import read_json, write_json
from mlegfn.data.resident import unit_images
from mlegfn.errors import UserError
from mlegfn.training import distributed
from mlegfn.training.checkpoint import read_model
from reproduction.images.arm_training import finetune
from reproduction.images.inputs import TRAINING, baseline, read_by
from reproduction.images.measuring import check, measure

__all__ = ["choose"]


def choose(stage, arm, prepared):
    """{setting: value}: the combination of the arm's settings with the lowest validation NLL; the only one untried.

    prepared: a function that gives (data, training images, validation images), called where something has to be trained.
    Writes results/<scale>/images/metrics/finetune/<arm>/choice.json: every combination with its NLL, and the chosen one.
    """
    combinations = trials(stage, arm)
    if len(combinations) == 1:
        only = {"trial": combinations[0], "bits_per_dim": None, "clipped_share": None, "why": "the only one"}
        return chosen(stage, arm, only, [only])
    parts = [(trial, part_of(stage, arm, trial)) for trial in combinations]
    for trial, part in parts:
        if not part.finished:
            record = attempt(stage, arm, part, trial, *prepared())
            if distributed.is_first():
                write_json(part.outputs[0], record)
                part.finish()
            distributed.wait()  # a rank that went on would read what is not written yet
    tried = [read_json(part.outputs[0]) for _, part in parts]
    if all(one["bits_per_dim"] is None for one in tried):
        raise UserError(
            f"params.yaml: images.{stage.scale}.finetune.{arm}: every combination diverges; lower lr or weight"
        )
    best = min(tried, key=lambda one: math.inf if one["bits_per_dim"] is None else one["bits_per_dim"])
    return chosen(stage, arm, best, tried)


def chosen(stage, arm, best, tried):
    """Write choice.json, and return the combination of ``best``, one of the records ``tried``."""
    if distributed.is_first():
        where = stage.settings.finetune.all.search.model_dump()
        write_json(
            folder(stage, arm) / "choice.json",
            {"scale": stage.scale, "arm": arm, **where, "chosen": best["trial"], "tried": tried},
        )
    return best["trial"]


def folder(stage, arm):
    return stage.path("metrics", "finetune", arm)


def trials(stage, arm):
    return getattr(stage.settings.finetune, arm).trials()


def name_of(trial):
    """``search-lr0.001-warmup20-weight0.0001``."""
    return "-".join(["search", *(f"{key}{value:g}" for key, value in trial.items())])


def part_of(stage, arm, trial):
    """The ``Part`` of one combination."""
    every, settings = stage.settings.finetune.all, stage.settings
    own = {
        "arm": arm,
        "search": every.search.model_dump(),
        "steps": every.evaluate_at[-1],
        "finetune": settings.finetune.arm(arm, trial).model_dump(mode="json"),
        "nll": settings.nll.model_dump(include={"seed", "batch", "estimator", "evaluations"}),
    }
    return stage.part(
        name_of(trial),
        outputs=[folder(stage, arm) / f"{name_of(trial)}.json"],
        settings=read_by(settings, TRAINING, **own),
        inputs=[stage.data, baseline(stage, every.search.checkpoint, every.search.seed)],
    )


def attempt(stage, arm, part, trial, data, images, validation):
    """The JSON of one combination. One that diverges has no NLL, and is not chosen."""
    settings, every = stage.settings, stage.settings.finetune.all
    step, seed = every.search.checkpoint, every.search.seed
    end, of_arm = every.evaluate_at[-1], settings.finetune.arm(arm, trial)
    head = {"trial": trial, "images": len(validation)}
    check(stage, len(validation), "validation")
    try:
        trained = finetune(stage, part, arm, of_arm, step, seed, data, images, [end], False)
    except (FloatingPointError, ValueError) as error:  # which of the two depends on where it shows first
        if "finite" not in str(error):
            raise
        print(f"{arm} {trial}: {error}")
        return {**head, "bits_per_dim": None, "clipped_share": None, "why": str(error)}
    model = read_model(trained.points[end], settings, images.device)
    pixels = unit_images(validation, data.levels, images.device)
    measured = measure(model, pixels, settings.nll, f"validation NLL of {arm}")
    value = measured.per_image.mean().item()
    if distributed.is_first():
        print(f"{arm} {trial}: {value:.4f} bits/dim of {len(validation)} validation images")
    return {
        **head,
        "bits_per_dim": value if math.isfinite(value) else None,
        "clipped_share": trained.record["clipped_share"],
    }
