"""The figure of objectives and variances: the bound's terms, likelihood against quality; and their table."""

import numpy as np
import pandas

from reproduction.drawing import style

COLOURS = {"simple": "#0072b2", "hybrid": "#009e73", "bound": "#e69f00", "bound_learned": "#d55e00"}
MARKERS = {"large": "o", "small": "s", "analytic": "D", "learned": "*"}
# Terms of these only: the others lie between.
SHOWN = [("simple", "large"), ("simple", "small"), ("simple", "analytic"), ("hybrid", "learned"), ("bound_learned", "learned")]  # fmt: skip
LINES = {"large": "-", "small": ":", "analytic": "--", "learned": "-"}
SIGNS = {"large": "β_t", "small": "β̃_t", "analytic": "analytic", "learned": "learned"}


def plot(result):
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(style.WIDTH, 3.0), layout="constrained")
    terms, scatter = figure.subplots(1, 2)
    titles = {row["arm"]: row["objective"] for row in result.details["rows"]}
    order = [(row["arm"], row["variance"]) for row in result.details["rows"]]
    for arm, variance in SHOWN:
        curve = result.tensors["terms"][order.index((arm, variance))]
        terms.plot(
            np.arange(1, len(curve)),
            curve[:-1],
            color=COLOURS[arm],
            linestyle=LINES[variance],
            label=f"{titles[arm].split(',')[0]}, {SIGNS[variance]}",
        )
    terms.set(
        title="term t of the bound, bits a dimension",
        xlabel="t",
        xscale="log",
        yscale="log",
        ylim=(1e-3, None),
    )
    terms.legend(loc="lower left")
    frame = table(result)
    for (arm, variance), (_, row) in zip(order, frame.iterrows(), strict=True):
        scatter.errorbar(
            row["NLL, bits/dim"],
            row["distance"],
            row["± (distance)"],
            row["± (NLL)"],
            color=COLOURS[arm],
            marker=MARKERS[variance],
            # L_simple lies below L_hybrid, whose mean it shares: a little larger, or it would not be seen.
            markersize=(7 if variance == "learned" else 4.5) + (2.5 if arm == "simple" else 0),
            markeredgecolor="white",
            markeredgewidth=0.4,
            elinewidth=0.6,
            linestyle="none",
        )
    scatter.axhline(np.mean(result.quantities["distance_floor"]["values"]), color=style.GREY, linewidth=0.8)
    scatter.set(
        title="samples against likelihood", xlabel="test NLL, bits/dim", ylabel="sliced Wasserstein distance"
    )
    handles = [
        Line2D([], [], color=colour, label=titles[arm], linewidth=3) for arm, colour in COLOURS.items()
    ]
    handles += [
        Line2D([], [], color=style.INK, marker=marker, linestyle="none", label=SIGNS[variance])
        for variance, marker in MARKERS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=8, columnspacing=1.0, handletextpad=0.4)
    return figure


def caption(result):
    settings = result.settings
    floor = np.mean(result.quantities["distance_floor"]["values"])
    return (
        f"Left, the bound's terms L_t−1 (at t = 1, the decoder's) of test images, mean over {len(settings['seeds'])} seeds, "
        f"T = {settings['timesteps']}. Right, each objective with each reverse variance: test NLL and the distance of "
        f"{settings['samples']} samples to as many test images, mean and standard deviation over seeds (grey: {floor:.3f}, "
        f"the distance of training images). {settings['steps']} steps of {settings['batch']} images a training."
    )


def table(result):
    """A row an objective and variance: NLL and distance, mean and standard deviation over seeds."""

    def statistics(name):
        values = np.array(result.quantities[name]["values"])
        return values.mean(), values.std(ddof=1) if len(values) > 1 else np.nan

    rows = []
    for row in result.details["rows"]:
        name = f"{row['arm']}_{row['variance']}"
        nll, distance = statistics(f"nll_{name}"), statistics(f"distance_{name}")
        rows.append(
            {
                "objective": row["objective"],
                "variance": SIGNS[row["variance"]],
                "NLL, bits/dim": nll[0],
                "± (NLL)": nll[1],
                "distance": distance[0],
                "± (distance)": distance[1],
                "seeds": len(result.settings["seeds"]),
            }
        )
    return pandas.DataFrame(rows)
