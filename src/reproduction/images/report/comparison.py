"""A fine-tuned arm against a reference, image by image: arrays of paired differences in bits/dim.

References:

``simple``, ``reweighted``, …
    another arm, fine-tuned from the same checkpoint of the same baseline on the same data and noise.
``baseline``
    pretraining carried on, of the same seed. It is known where it was saved; in between, each image's bits/dim is taken on the
    straight line between the two saved steps around it. Learning curves are convex, and the chord of a convex
    curve lies above it: this reference is a little too high and **flatters** the fine-tuned arm. It differs
    from the arms in learning rate and averaging too. ``simple`` is the fair reference.
``baseline_next``
    the next saved step of the baseline, which has seen more data: as long as the baseline still falls, this
    one is hard on the fine-tuned arm.

Equal in what? ``steps``: both after the same number of optimiser steps since the checkpoint.
``evaluations``: both after the same number of network evaluations (forward + backward) since the checkpoint:
the smaller of what the two have spent in all. There, the one that has spent more is taken on the straight line
between its measured points; before its first measured point there is none, and nothing is compared.
"""

from bisect import bisect_left

import numpy as np


def curve(metrics, checkpoint, who, equal="steps"):
    """``(x, y)`` of an arm or of ``baseline`` from a checkpoint on: x [P] rising from 0, y a list of [S, I].

    x counts optimiser steps or network evaluations since the checkpoint; y is bits/dim of each image, [S, I].
    """
    key = (checkpoint, who, equal)
    if key not in metrics.curves:
        metrics.curves[key] = _curve(metrics, *key)
    return metrics.curves[key]


def _curve(metrics, checkpoint, who, equal):
    if who == "baseline":
        unit = metrics.baseline_cost if equal == "evaluations" else 1
        later = [step for step in metrics.baseline_steps if step >= checkpoint]
        return (
            np.array([(step - checkpoint) * unit for step in later], dtype=np.float64),
            [metrics.baseline_per_image(step) for step in later],
        )
    steps = sorted(set.intersection(*(set(metrics.runs[checkpoint, who, s]) for s in metrics.seeds)))
    spent = [metrics.spent(checkpoint, who, n) if equal == "evaluations" else n for n in steps]
    start = metrics.baseline_per_image(checkpoint)
    return (
        np.array([0, *spent], dtype=np.float64),
        [start, *(metrics.per_image(checkpoint, who, n) for n in steps)],
    )


def at(x, y, where):
    """The curve ``(x, y)`` at ``where``, on the straight line between its points; ``where`` ≤ x[-1]."""
    right = bisect_left(x, where)
    if x[right] == where:
        return y[right]
    share = (where - x[right - 1]) / (x[right] - x[right - 1])
    return (1 - share) * y[right - 1] + share * y[right]


def budgets(metrics, checkpoint, arm, reference, equal="steps"):
    """Where the two are compared: every measured point of ``arm`` that ``reference`` reaches too, as x values.

    The last is the largest x that both reach, if that is not before the first measured point of either.
    """
    x, _ = curve(metrics, checkpoint, arm, equal)
    if reference == "baseline_next":
        return [float(v) for v in x[1:] if following(metrics, checkpoint, v)]
    other, _ = curve(metrics, checkpoint, reference, equal)
    common = float(min(x[-1], other[-1]))
    reached = [float(v) for v in x[1:] if v <= common]
    first = x[1] if reference == "baseline" else max(x[1], other[1])
    if common >= first and reached[-1] < common:
        reached.append(common)
    return [v for v in reached if v >= first]


def following(metrics, checkpoint, steps):
    """The first saved step of the baseline at or after ``checkpoint + steps``, or None."""
    return next((saved for saved in metrics.baseline_steps if saved >= checkpoint + steps), None)


def differences(metrics, checkpoint, arm, reference, where, equal="steps"):
    """Bits/dim of ``arm`` minus that of ``reference`` at x = ``where``, [S, I]; below zero the arm is better."""
    own = at(*curve(metrics, checkpoint, arm, equal), where)
    if reference == "baseline_next":
        return own - metrics.baseline_per_image(following(metrics, checkpoint, where))
    return own - at(*curve(metrics, checkpoint, reference, equal), where)
