"""How the claims about images are decided: the kinds of test, and what the metrics say about each."""

from functools import partial
from typing import Literal, get_args

import numpy as np
from pydantic import Field

from reproduction.images.report import log_p
from reproduction.images.report.comparison import budgets, differences
from reproduction.settings.training import Arm
from reproduction.settings.types import Block
from reproduction.settings.validation import rule
from reproduction.verdicts import statistics
from reproduction.verdicts.evidence import Evidence, parts_below

__all__ = ["KINDS", "TESTS", "FinetuneBelow", "LogPAbove"]

ARMS = get_args(Arm)


class FinetuneBelow(Block):
    """Test NLL of ``arm`` is below that of ``reference``, both fine-tuned from the same checkpoint."""

    kind: Literal["finetune_below"]
    arm: Arm
    reference: Literal["baseline", "baseline_next", *ARMS] = Field(
        description="another arm; the baseline at the same place (linear between saved steps); its next saved step"
    )
    checkpoints: Literal["all", "mean"] = Field(description="at every checkpoint, or averaged over them")
    at: Literal["last", "every"] = Field(
        description="after the last fine-tuning step, or at every measured one"
    )
    equal: Literal["steps", "evaluations"] = Field(description="what the two have in common")

    @rule("reference", "arm")
    def two_models(reference, arm):
        return "must be another one than `arm`" if reference == arm else None

    @rule("equal", "reference")
    def next_is_of_steps(equal, reference):
        if reference == "baseline_next" and equal != "steps":
            return "must be steps, because the reference is baseline_next"

    @rule("at", "checkpoints")
    def means_are_at_the_end(at, checkpoints):
        if checkpoints == "mean" and at != "last":
            return "must be last, because the checkpoints are averaged"


class LogPAbove(Block):
    """log p of test images, not its bound, is above that of ``reference`` at the last checkpoint."""

    kind: Literal["log_p_above"]
    arm: Arm
    reference: Literal["baseline", *ARMS]

    @rule("reference", "arm")
    def two_models(reference, arm):
        return "must be another one than `arm`" if reference == arm else None


def absent_arms(metrics, *arms):
    return [f"arm {arm}" for arm in arms if arm in ARMS and arm not in metrics.arms]


def covers(metrics):
    """What the intervals of a scale are over."""
    if len(metrics.seeds) == 1:
        return "one baseline: the interval covers images only"
    return "interval over pretraining seeds, each with its own fine-tunes, and images"


def finetune_below(metrics, test):
    """Parts: checkpoints (× measured steps with ``at: every``), paired by seed and image."""
    absent = absent_arms(metrics, test.arm, test.reference)
    untested, arrays = list(absent), {}
    for checkpoint in () if absent else metrics.checkpoints:
        places = budgets(metrics, checkpoint, test.arm, test.reference, test.equal)
        if not places:
            untested.append(f"checkpoint {checkpoint} (`{test.arm}` and `{test.reference}` do not overlap)")
            continue
        for x in places[-1:] if test.at == "last" else places:
            where = f"checkpoint {checkpoint} + {x:,.0f} {test.equal}"
            arrays[where] = differences(metrics, checkpoint, test.arm, test.reference, x, test.equal)
    if test.checkpoints == "mean" and untested:
        arrays = {}  # the mean over some of the checkpoints is not the mean over all
    elif test.checkpoints == "mean":
        arrays = {f"mean of {len(arrays)} checkpoints": np.mean(list(arrays.values()), axis=0)}
    parts = parts_below({where: partial(statistics.paired, values) for where, values in arrays.items()})
    notes = covers(metrics)
    if test.reference == "baseline":
        notes += f"; a straight line lies above a convex curve, which favours `{test.arm}` a little"
    noun = None if test.checkpoints == "mean" else "checkpoint" if test.at == "last" else "measured point"
    return Evidence(parts, untested, "bits/dim", _finetune_statement(test), noun, notes)


def _finetune_statement(test):
    how = {"baseline": " (linear between saved steps)", "baseline_next": " (its next saved step)"}
    when = "after the last" if test.at == "last" else "at every measured"
    where = "at every checkpoint" if test.checkpoints == "all" else "mean over checkpoints"
    return (
        f"test NLL of `{test.arm}` minus `{test.reference}`{how.get(test.reference, '')} at equal {test.equal}, "
        f"{when} fine-tuning step that both reach, {where}: 95 % interval below 0"
    )


def log_p_above(metrics, test):
    """One part: −log p̂ of the arm minus the reference's, paired by seed and image, at the last checkpoint."""
    untested, parts, notes = absent_arms(metrics, test.arm, test.reference), [], covers(metrics)
    if not untested:
        own, other = (log_p.per_image(metrics, name) for name in (test.arm, test.reference))
        where = f"checkpoint {metrics.checkpoints[-1]}"
        parts = parts_below({where: partial(statistics.paired, other - own)})
        fields = metrics.log_p[test.arm, metrics.seeds[0]]
        notes += (
            f"; {fields['images']} images, {fields['trajectories']} trajectories each: log p̂ is still a lower bound, by "
            f"which is not known (half of them give {fields['log_p_half'] - fields['log_p']:+.2f} nats)"
        ).replace("-", "−")
    statement = (
        f"−log p̂ of `{test.arm}` minus `{test.reference}`, importance weighting over joint trajectories, after the last "
        "fine-tuning step at the last checkpoint: 95 % interval below 0"
    )
    return Evidence(parts, untested, "nats", statement, None, notes)


KINDS = {"finetune_below": FinetuneBelow, "log_p_above": LogPAbove}
TESTS = {"finetune_below": finetune_below, "log_p_above": log_p_above}
