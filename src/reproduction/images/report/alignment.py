"""How the gradients of the bound and of the variance lie to each other: a row for each checkpoint and kind of variances."""

import math

import numpy as np
import pandas

from reproduction.drawing.tables import number, signed
from reproduction.verdicts.statistics import half_width

__all__ = ["frame", "plus_minus"]

PRODUCTS = ("bound_squared", "bound_variance", "variance_squared")


def plus_minus(row, key, digits):
    """``+0.31 ± 0.05``; a dash where a squared length was not told from 0."""
    if pandas.isna(row[key]):
        return "–"
    half = row[f"{key}_half"]
    return signed(row[key], digits) + ("" if pandas.isna(half) else f" ± {number(half, digits)}")


def frame(records):
    """A row for each (checkpoint, kind): means over seeds of the products, cosine and ratio with half of their intervals."""
    rows = []
    for step in sorted({record["checkpoint"] for record in records}):
        of_step = [record for record in records if record["checkpoint"] == step]
        for kind in of_step[0]["variances"]:
            values = np.array([[record["variances"][kind][name] for name in PRODUCTS] for record in of_step])
            row = {"timesteps": of_step[0]["timesteps"], "checkpoint": step, "variances": kind}
            row |= dict(zip(PRODUCTS, values.mean(0)))
            for name, function in (("cosine", cosine), ("ratio", ratio)):
                row[name], row[f"{name}_half"] = jackknifed(function, values)
            rows.append({**row, "negative": int((values[:, 1] < 0).sum()), "seeds": len(values)})
    return pandas.DataFrame(rows)


def cosine(products):
    """Of the mean products (‖∇N‖², ∇N·∇V, ‖∇V‖²); NaN where a squared length is not positive."""
    bound, both, variance = products
    return both / math.sqrt(bound * variance) if bound > 0 and variance > 0 else math.nan


def ratio(products):
    """∇N·∇V/‖∇V‖²; NaN where ‖∇V‖² is not positive."""
    return products[1] / products[2] if products[2] > 0 else math.nan


def jackknifed(function, values):
    """(function of the mean of ``values`` [S, 3], half of its 95 % interval by the jackknife over S; NaN for S = 1)."""
    count, whole = len(values), function(values.mean(0))
    if count < 2:
        return whole, math.nan
    without = np.array([function(np.delete(values, number, 0).mean(0)) for number in range(count)])
    pseudo = count * whole - (count - 1) * without
    return whole, half_width(pseudo) if np.isfinite(pseudo).all() else math.nan
