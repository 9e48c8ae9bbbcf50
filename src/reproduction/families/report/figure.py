"""The families' figure: a row a family, its data first."""

import numpy as np

from reproduction.drawing import style

__all__ = ["caption", "draw", "plot"]

COLUMNS = 4
ROW = 1.7  # inches


def draw(families, panels):
    """``{"pdf": bytes, "svg": …, "png": …}`` of :func:`plot`."""
    return style.draw(plot, families, panels)


def caption(name, settings, families):
    data = "; ".join(f"{value['title']}: {value['data']}" for value in families.values())
    return (
        f"**Every family, trained and sampled** (scale `{name}`, seed {settings.seeds[0]}). A row a family, through one "
        f"interface. {data}."
    )


def plot(families, panels):
    """A matplotlib figure.

    :param families: ``{family: contents of its metrics file}``, in order
    :param panels: ``{family: {"panel-0": array, …}}``
    """
    from matplotlib.figure import Figure

    # Not matplotlib's constrained layout: one curve's labels would move a column's panels in every row.
    figure = Figure(figsize=(style.WIDTH, ROW * len(families)))
    rows = figure.subplots(len(families), COLUMNS, squeeze=False)
    margin = 0.25 / (ROW * len(families))
    figure.subplots_adjust(left=0.09, right=0.99, top=1 - margin, bottom=margin, wspace=0.34, hspace=0.5)
    for axes, (family, value) in zip(rows, families.items()):
        points = [
            panels[family][f"panel-{k}"]
            for k, panel in enumerate(value["panels"])
            if panel["kind"] == "points"
        ]
        limit = max((np.quantile(np.abs(values), 0.995) for values in points), default=1.0) * 1.05
        for k, axis in enumerate(axes):
            if k >= len(value["panels"]):
                axis.set_axis_off()
                continue
            panel = value["panels"][k]
            DRAW[panel["kind"]](axis, panels[family][f"panel-{k}"], panel, limit)
            axis.set_title(_wrapped(panel["title"], 30), fontsize=6.5, fontweight="normal")
        axes[0].set_ylabel(_wrapped(value["title"], 18), fontsize=7, fontweight="bold")
    return figure


def _wrapped(title, width):
    import textwrap

    return "\n".join(textwrap.wrap(title, width))


def _points(axis, values, panel, limit):
    axis.scatter(*values[:1500].T, s=0.7, color=style.INK, alpha=0.5, linewidths=0, rasterized=True)
    axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
    axis.grid(False)


def _images(axis, values, panel, limit):
    """A sheet of images, as square as can be."""
    count, height, width = values.shape
    across = int(np.ceil(np.sqrt(count)))
    down = -(-count // across)
    sheet = np.ones((down * (height + 1) - 1, across * (width + 1) - 1), dtype=values.dtype)
    for k, image in enumerate(values):
        y, x = k // across * (height + 1), k % across * (width + 1)
        sheet[y : y + height, x : x + width] = image
    axis.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


def _curve(axis, values, panel, limit):
    axis.loglog(*values.T, "o-", color=style.ARMS["vlb"][0], markersize=2.5, linewidth=0.9)
    axis.set_xlabel(panel["labels"][0], fontsize=6.5, labelpad=1)
    axis.set_ylabel(_wrapped(panel["labels"][1], 24), fontsize=6, labelpad=1)
    axis.tick_params(labelsize=6)
    axis.minorticks_off()


DRAW = {"points": _points, "images": _images, "curve": _curve}
