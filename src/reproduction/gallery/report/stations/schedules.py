"""The figure of the schedules: log SNR and β against t, what each step costs, and the bounds with their intervals."""

import numpy as np
import pandas

from reproduction.drawing import style

COLOURS = {"linear": "#8c8c8c", "cosine": "#0072b2", "learned": "#d55e00"}
MARKERS = {"linear": "s", "cosine": "^", "learned": "o"}
STARTS = ("points", "images")


def of_start(result, start):
    settings = result.settings
    return settings["points"]["problem"] if start == "points" else "images"


def plot(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 3.9), layout="constrained")
    axes = figure.subplots(2, 4, width_ratios=[1, 1, 1, 1.05])
    for row, start in zip(axes, STARTS, strict=True):
        curves(row[:3], result, start)
        bounds(row[3], result, start)
        row[0].set_ylabel(of_start(result, start), fontweight="bold", fontsize=8)
    for axis, title in zip(axes[0], ("log SNR_t", "β_t", "cost of step t", "bound on the NLL"), strict=True):
        axis.set_title(title)
    for axis in axes[1, :3]:
        axis.set_xlabel("t")
    axes[0, 0].legend(loc="lower left")
    return figure


def curves(axes, result, start):
    """log SNR, β and the terms of the bound, a thin line a seed."""
    snr, beta, cost = axes
    for schedule, colour in COLOURS.items():
        gammas, betas, terms = (
            result.tensors[f"{start}.{schedule}.{what}"] for what in ("gammas", "betas", "terms")
        )
        t = np.arange(1, gammas.shape[1] + 1)
        for axis, values in ((snr, -gammas), (beta, betas), (cost, terms[:, 1:-1])):
            for k, curve in enumerate(values):
                # L_{t−1} of t = 2 … T: L_0 is a log-density and may be negative.
                times = t if axis is not cost else t[1:]
                label = schedule if k == 0 else None
                axis.plot(times, curve, color=colour, linewidth=0.9, alpha=0.8, label=label)
    beta.set(ylim=(0, 1))
    cost.set(yscale="log")
    cost.set_ylabel(f"L_t−1, {result.details[start]['unit']}")


def bounds(axis, result, start):
    """The mean of each schedule's bound, with its 95 % interval over seeds, and the seeds."""
    for place, schedule in enumerate(COLOURS):
        values = np.array(result.quantities[f"{start}_{schedule}"]["values"])
        low, high = interval(values)
        axis.errorbar(
            [place],
            [values.mean()],
            yerr=[[values.mean() - low], [high - values.mean()]],
            color=COLOURS[schedule],
            marker=MARKERS[schedule],
            markersize=4,
            capsize=3,
            linewidth=1,
        )
        axis.plot([place + 0.25] * len(values), values, ".", color=COLOURS[schedule], markersize=2.5)
    axis.set_xticks(range(len(COLOURS)), COLOURS, fontsize=6.5)
    axis.set(xlim=(-0.5, len(COLOURS) - 0.4), ylabel=result.details[start]["unit"])


def interval(values):
    """Student's 95 % interval of a mean over seeds; the value itself of one seed."""
    from reproduction.verdicts import statistics

    if len(values) < 2:
        return values[0], values[0]
    return statistics.student(values)[1:3]


def caption(result):
    settings = result.settings
    gains = []
    for start in STARTS:
        values = np.array(result.quantities[f"{start}_learned_minus_linear"]["values"])
        low, high = interval(values)
        gains.append(
            f"{of_start(result, start)}: {number(values.mean())} {result.details[start]['unit']} ({number(low)} to {number(high)})"
        )
    return (
        f"T = {settings['timesteps']} steps; above {of_start(result, 'points')}, below the images; {len(settings['seeds'])} seeds, "
        "a line each. From left to right: the logarithm of the signal-to-noise ratio ᾱ_t/(1 − ᾱ_t); β_t; what each reverse "
        "step costs, the term L_{t−1} of the bound; the bound on test data with its 95 % interval over seeds. Learned minus "
        f"linear, seed by seed, with its 95 % interval: {'; '.join(gains)}."
    )


def number(value):
    return f"{value:.3g}".replace("-", "−")


def table(result):
    """A row a start and schedule: the bound, its parts, and its difference to the learned one's."""
    rows = []
    for start in STARTS:
        for schedule in COLOURS:
            values = np.array(result.quantities[f"{start}_{schedule}"]["values"])
            terms = result.tensors[f"{start}.{schedule}.terms"].mean(0)
            gammas = result.tensors[f"{start}.{schedule}.gammas"].mean(0)
            low, high = interval(values)
            rows.append(
                {
                    "data": of_start(result, start),
                    "schedule": schedule,
                    "bound on the NLL": values.mean(),
                    "95 % low": low,
                    "95 % high": high,
                    "L_0": terms[0],
                    "L_1 … L_T−1": terms[1:-1].sum(),
                    "L_T": terms[-1],
                    "unit": result.details[start]["unit"],
                    "log SNR_1": -gammas[0],
                    "log SNR_T": -gammas[-1],
                }
            )
    return pandas.DataFrame(rows)
