"""The figure of progressive generation: x̂_0 on the way, what is settled when, and rate against distortion."""

import numpy as np

from reproduction.drawing import style
from reproduction.gallery.report.sheets import headed

SHOWN, ROWS = 11, 6  # columns and rows of the sheet


def plot(result):
    from matplotlib.figure import Figure

    details, guesses = result.details, result.tensors["guesses"]
    times = np.array(details["times"])
    figure = Figure(figsize=(style.WIDTH, 5.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.75, 1])
    chosen = np.unique(np.linspace(0, len(times) - 1, SHOWN - 1).round().astype(int))
    rows = np.stack([*guesses[chosen, :ROWS], result.tensors["samples"][:ROWS]], axis=1)
    headed(above.subplots(), rows, [*(f"t = {times[k]}" for k in chosen), "x_0"])
    settled, rate = below.subplots(1, 2)
    settled.plot(times, details["coarse"], color="#0072b2", label="coarse form: means over 2×2")
    settled.plot(times, details["fine"], color="#d55e00", linestyle="--", label="details: the rest")
    settled.set(
        xlabel="t", xlim=(times[0], 0), ylim=(0, None), title="distance of x̂_0 from x_0, of that at T"
    )
    settled.legend(loc="best")
    x, y = np.array(details["rate"]), np.array(details["distortion"])
    rate.plot(x, y, color=style.INK)
    rate.axvline(x[-1] / 2, color=style.GREY, linewidth=0.8, linestyle=":")
    rate.annotate("half of the bits", (x[-1] / 2, y.max()), (4, -2), textcoords="offset points", va="top")
    rate.set(xlabel="bits so far, bits/dim", title="error of x̂_0, grey levels")
    rate.set(xlim=(0, None), ylim=(0, None))
    return figure


def caption(result):
    settings, quantities = result.settings, result.quantities
    coarse, fine = (quantities[f"{name}_half"]["values"][0] for name in ("coarse", "fine"))
    return (
        "Above, what the model takes each of six samples to be at falling t; the last column is the sample itself. Below, "
        f"left: how far x̂_0 is from the end of its own path, over {settings['samples']} samples and as a part of their "
        "spread (near T it is more: there x̂_0 is the network's error, magnified by 1/√ᾱ_t and clipped): half of the coarse "
        f"form is settled at {coarse:.2f} T, half of the details at {fine:.2f} T. Right: {settings['images']} test images "
        "sent as a code from t = T down to 0, error of what the receiver can show against the bits it has."
    )
