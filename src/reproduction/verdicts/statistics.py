"""Intervals for paired differences that have two sources of chance: the seed and the test image.

A difference d[s, i] is that of one seed s of fine-tuning on one test image i (two arms of the same seed see
the same data and noise, and every run is measured on the same images with the same noise). With crossed
random effects, d[s, i] = μ + a_s + b_i + e_si, the mean over all has the variance

    σ_a²/S + σ_b²/I + σ_e²/(S·I).

Three readings of it:

- :func:`student` over the seed means (one number a seed, S − 1 degrees of freedom) covers a_s and e_si: what
  another seed would give **on these images**. It is the band of the figures.
- the same over the image means covers b_i and e_si: what other images would give **with these seeds**.
- :func:`paired` joins both half-widths in quadrature, √(h_S² + h_I²) (the "MOVER" of Zou & Donner, 2008). It
  counts σ_e² twice, so it is conservative, and it is never narrower than either. Verdicts use it.

Where a seed is a pretraining of its own with its own fine-tunes, as of images, the intervals cover that chance too.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["LEVEL", "NARROW", "Interval", "bootstrap", "half_width", "paired", "student"]

LEVEL = 0.95
NARROW = 0.90  # its bounds are two one-sided tests at 5 % each


class Interval(NamedTuple):
    """An estimate with the bounds of its interval, and how many seeds and images it rests on."""

    estimate: float
    low: float
    high: float
    seeds: int
    images: int | None = None


def half_width(values, level=LEVEL):
    """Half the width of Student's interval of the mean of ``values`` [n ≥ 2]: t_{n−1} · s/√n."""
    from scipy.special import stdtrit  # the t quantile, without the seconds that scipy.stats takes

    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError("an interval needs at least two values in one dimension")
    return float(stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values)))


def student(values, level=LEVEL):
    """Student's interval of the mean of ``values`` [S], one number a seed: (mean, low, high).

    One value has no interval: its bounds are NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    half = half_width(values, level) if len(values) > 1 else np.nan
    return mean, mean - half, mean + half


def paired(differences, level=LEVEL):
    """The mean of ``differences`` [S, I] with an interval over seeds **and** images (see the module).

    With one seed the interval is over images only; ``Interval.seeds == 1`` says so, and whoever shows it must.
    """
    differences = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    seeds, images = differences.shape
    if images < 2:
        raise ValueError("a paired interval needs at least two images")
    halves = [half_width(differences.mean(axis=0), level)]
    if seeds > 1:
        halves.append(half_width(differences.mean(axis=1), level))
    mean, half = float(differences.mean()), float(np.hypot.reduce(halves))
    return Interval(mean, mean - half, mean + half, seeds, images)


def bootstrap(differences, draws=1000, level=LEVEL, seed=0):
    """Percentile bounds (low, high) of the mean of ``differences`` [S, I], seeds and images both redrawn.

    The two-way ("pigeonhole") bootstrap of Owen (2007). With few seeds it is too narrow, for S draws of S
    seeds have only (S − 1)/S of their variance: it is a check on :func:`paired`, never a verdict.
    """
    differences = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    seeds, images = differences.shape
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    for k in range(draws):  # one draw at a time: memory stays that of the differences
        rows = differences[generator.integers(seeds, size=seeds)]
        means[k] = rows[:, generator.integers(images, size=images)].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
