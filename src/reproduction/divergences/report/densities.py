"""Densities in the plane beside their target's: of every objective, and for α from mass covering to mode seeking."""

import numpy as np

from reproduction.divergences.report.metrics import OBJECTIVES, alpha_key
from reproduction.drawing import style
from reproduction.drawing.density import ink

# drawing/density.py draws points as histograms; here are densities of cells, on a box that the stage chose.
COLUMNS, PIXELS = 6, 200
LIMITS = {0.0: "forward_kl", 1.0: "reverse_kl"}  # of the α-divergence of P_F from the target: α → 0 and α → 1


def grid(metrics, task, arrays):
    """A matplotlib figure: the target, samples by NUTS where there are any, and the first seed of each objective."""
    panels = [("target", arrays["target"], "")]
    if "nuts" in arrays:
        panels.append(("NUTS samples", arrays["nuts"], ""))
    for name in metrics.task_settings[task].objectives:
        value = metrics.values(task, name)[0]
        panels.append((OBJECTIVES[name].title, arrays[name], f"{metrics.tasks[task]['metric']} {value:.3g}"))
    return _panels(panels, metrics.tasks[task]["box"], COLUMNS)


def _panels(panels, box, columns, lines=1):
    """``panels``: [(title, cells [C, C] or points [M, 2], text of ``lines`` lines below)] in rows of ``columns``."""
    from matplotlib.figure import Figure

    rows, gap, above, below = -(-len(panels) // columns), 0.06, 0.17, 0.03 + 0.135 * lines
    side = style.WIDTH / columns - gap
    tall = rows * (side + above + below)
    figure = Figure(figsize=(style.WIDTH, tall))
    brightest = np.quantile(panels[0][1], 0.999)
    for k, (title, values, text) in enumerate(panels):
        x, y = (
            k % columns * (side + gap) + gap / 2,
            tall - (k // columns + 1) * (side + above + below) + below,
        )
        axes = figure.add_axes([x / style.WIDTH, y / tall, side / style.WIDTH, side / tall])
        if values.shape[1] == 2:
            axes.scatter(*values.T, s=1.2, color=style.INK, alpha=0.4, linewidths=0, rasterized=True)
        else:
            axes.imshow(
                _coarse(values).T,
                extent=(*box[0], *box[1]),
                **{"origin": "lower", "aspect": "auto", "cmap": ink(), "vmin": 0, "vmax": brightest},
                interpolation="none",
            )
        axes.set(xticks=[], yticks=[], xlim=box[0], ylim=box[1])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set(visible=True, color="#bfbfbf")
        axes.set_title(title, loc="center", fontweight="normal", fontsize=7.5, pad=2.5)
        axes.set_xlabel(text, fontsize=7, labelpad=2)
    return figure


def _coarse(values):
    """Cells [C, C] averaged in blocks to at most PIXELS a side, more than a panel shows."""
    block = -(-len(values) // PIXELS)
    side = len(values) // block * block
    return values[:side, :side].reshape(side // block, block, side // block, block).mean((1, 3))


def grid_caption(metrics, task):
    value = metrics.tasks[task]
    samples = " and samples of it by NUTS" if task == "banana" else ""
    return (
        f"**Densities of the {task}** (scale `{metrics.name}`, seed {metrics.task_settings[task].seeds[0]}): the "
        f"target{samples}, then the policy of each objective, on equal axes and colours; below each its exact "
        f"{value['metric']} to the target, nats, against a floor of {value['floor']['value']:.3g} from "
        f"{value['floor']['samples']:,} samples. Target: {value['about'].rstrip('.')}."
    )


def alpha(contents, densities):
    """A matplotlib figure: the target, then by α, with the KLs at their limits; a row an objective with an α.

    :param contents: of alpha.json
    :param densities: {(objective, α or None): [C, C]}
    """
    box = contents["box"]
    box = [box, box] if np.ndim(box) == 1 else box
    panels = [("target", densities["target", None], "")]
    for row in numbers(contents):
        text = f"JSD {row['jsd']:.3g}\n{row['modes']:.3g} mode{'s' * (row['modes'] != 1)}\n{100 * row['mass_inside']:.0f} % inside"
        panels.append((row["title"], densities[row["key"]], text))
    rows = -(-len(panels) // 7)
    return _panels(panels, box, -(-len(panels) // rows), lines=3)


def numbers(contents):
    """[{key, title, α, and the means over seeds of jsd, modes, mass_inside}], by objective, from low α to high."""
    by_key = {}
    for row in contents["rows"]:
        by_key.setdefault(alpha_key(row["objective"], row["alpha"]), []).append(row)
    limits = {name: value for value, name in LIMITS.items()}
    families = list(dict.fromkeys(name for name, _ in by_key if name not in limits))

    def place(key):
        name, value = key
        return (0 if name in limits else families.index(name), limits.get(name, value))

    rows = []
    for name, value in sorted(by_key, key=place):
        title = OBJECTIVES[name].title if value is None else f"{OBJECTIVES[name].title[:-2]}, α = {value:g}"
        means = {
            key: float(np.mean([row[key] for row in by_key[name, value]]))
            for key in ("jsd", "modes", "mass_inside")
        }
        rows.append(
            {
                "key": (name, value),
                "title": title.replace("-", "−"),
                "seeds": len(by_key[name, value]),
                **means,
            }
        )
    return rows


def alpha_caption(metrics):
    contents = metrics.alpha
    seeds = max(row["seeds"] for row in numbers(contents))
    lines = "\n".join(
        f"| {row['title']} | {row['jsd']:.4f} | {row['modes']:.3g} | {row['mass_inside']:.3f} |"
        for row in numbers(contents)
    )
    return (
        f"**From mass covering to mode seeking** (scale `{metrics.name}`): what α does to a policy that cannot fit its "
        f"target. {contents['about'].rstrip('.')}. By α from low to high, with forward KL, the limit α → 0, and reverse KL, the limit "
        f"α → 1, in their places; densities of the first seed, numbers as means over {seeds} seed{'s' * (seeds > 1)}. "
        "Modes: centres at which the policy has a tenth of the target's density or more; inside: the policy's mass near "
        "centres.\n\n| objective | JSD, nats | modes | mass inside |\n|:--|--:|--:|--:|\n" + lines
    )
