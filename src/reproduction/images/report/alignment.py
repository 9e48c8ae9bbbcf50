"""How the gradients of the bound and of the variance lie to each other: a row for each checkpoint and kind of variances."""

import math

import numpy as np
import pandas

from reproduction.drawing.tables import number, signed
from reproduction.verdicts.statistics import half_width

__all__ = ["frame", "plus_minus"]

PRODUCTS = ("bound_squared", "bound_variance", "variance_squared")


def plus_minus(row, key, digits):
    """``+0.31 ± 0.05``; a dash where it has no interval, because a squared length was not told from 0."""
    half = row[f"{key}_half"]
    if pandas.isna(row[key]) or pandas.isna(half):
        return "–"
    return f"{signed(row[key], digits)} ± {number(half, digits)}"


def frame(records):
    """A row for each (checkpoint, kind): means over seeds of the products and their cosine, with half of their 95 % intervals.

    The cosine is NaN where the interval of a squared length contains 0.
    """
    rows = []
    for step in sorted({record["checkpoint"] for record in records}):
        of_step = [record for record in records if record["checkpoint"] == step]
        for kind in of_step[0]["variances"]:
            values = np.array([[record["variances"][kind][name] for name in PRODUCTS] for record in of_step])
            row = {"timesteps": of_step[0]["timesteps"], "checkpoint": step, "variances": kind}
            for name, column in zip(PRODUCTS, values.T):
                row[name], row[f"{name}_half"] = (
                    column.mean(),
                    half_width(column) if len(column) > 1 else math.nan,
                )
            told = (
                row["variance_squared"] > row["variance_squared_half"]
                and row["bound_squared"] > row["bound_squared_half"]
            )
            row["along"], row["along_half"] = jackknifed(along, values)
            row["cosine"], row["cosine_half"] = jackknifed(cosine, values) if told else (math.nan, math.nan)
            rows.append({**row, "seeds": len(values)})
    return pandas.DataFrame(rows)


def cosine(products):
    """Of the mean products (‖∇N‖², ∇N·∇V, ‖∇V‖²); NaN where a squared length is not positive."""
    bound, both, variance = products
    return both / math.sqrt(bound * variance) if bound > 0 and variance > 0 else math.nan


def along(products):
    """∇N·∇V/‖∇N‖, nats²: how fast V changes along a unit step up the bound of −log p; NaN where ‖∇N‖² is not positive."""
    return products[1] / math.sqrt(products[0]) if products[0] > 0 else math.nan


def jackknifed(function, values):
    """(function of the mean of ``values`` [S, 3], half of its 95 % interval by the jackknife over S; NaN for S = 1)."""
    count, whole = len(values), function(values.mean(0))
    if count < 2:
        return whole, math.nan
    without = np.array([function(np.delete(values, number, 0).mean(0)) for number in range(count)])
    pseudo = count * whole - (count - 1) * without
    return whole, half_width(pseudo) if np.isfinite(pseudo).all() else math.nan
