"""The figure of the cascade: captions with what was drawn, enlarged, and the share that is right."""

import numpy as np
import pandas

from mlegfn.report import style
from mlegfn.report.gallery._sheets import sheet

ROWS = {
    "untold": "w = 0",
    "small": "small",
    "plain": "no augm.",
    "large": "enlarged",
    "real": "real",
}
COLOURS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00")
ASPECTS = {"digits": "digits", "place": "place", "size": "size", "relation": "relation", "dark": "dark"}


def plot(found):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[2.5, 1])
    pictures(above, found)
    guidance, aspects, levels = below.subplots(1, 3, width_ratios=[1, 1.25, 1])
    rows = {row["of"]: row for row in found.details["aspects"]}
    against_guidance(guidance, found, rows)
    by_aspect(aspects, found, rows)
    against_level(levels, found, rows)
    return figure


def pictures(figure, found):
    """A column a caption, which stands above it; a row a kind of picture."""
    columns = len(found.details["captions"])
    axes = figure.subplots(len(ROWS), columns, squeeze=False)
    for row, (name, label) in enumerate(ROWS.items()):
        for column in range(columns):
            axis = axes[row, column]
            axis.imshow(sheet(found.tensors[name][[column]], 1), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            for side in axis.spines.values():
                side.set(visible=True, color=style.GREY, linewidth=0.4)
        axes[row, 0].set_ylabel(label, fontsize=7)
    for column, (text, out) in enumerate(
        zip(found.details["captions"], found.details["held_out"], strict=True)
    ):
        axes[0, column].set_title(
            broken(text) + (" *" if out else ""), fontsize=7, fontweight="normal", loc="center"
        )


def broken(text, width=11):
    """A caption in lines of about ``width`` letters, which stand above a picture."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def against_guidance(axis, found, rows):
    weights = found.settings["guidance"]
    for group, label, colour in (
        ("seen", "trained on", COLOURS[0]),
        ("held_out", "held out", COLOURS[2]),
    ):
        shares = [rows[f"guidance {w:g}"][f"all_{group}"] for w in weights]
        axis.plot(weights, shares, "o-", color=colour, label=label)
    axis.set(xlabel="guidance w", ylim=(0, 1), title="caption right in full")
    axis.legend(fontsize=7)


def by_aspect(axis, found, rows):
    """Real scenes beside samples, an aspect each."""
    main = f"guidance {found.settings['guidance'][-1]:g}"
    place = np.arange(len(ASPECTS))
    for shift, (name, label, colour) in enumerate(
        (
            ("real", "real", style.GREY),
            ("enlarged", "small is real", COLOURS[1]),
            (main, "samples", COLOURS[0]),
        )
    ):
        values = [rows[name][aspect] for aspect in ASPECTS]
        axis.bar(place + 0.27 * (shift - 1), values, 0.27, color=colour, alpha=0.75, label=label)
    axis.set_xticks(place, ASPECTS.values(), fontsize=7)
    axis.grid(False, axis="x")
    axis.set(ylim=(0, 1.35), title="each aspect right")
    axis.set_yticks([0, 0.5, 1])
    axis.legend(fontsize=7, ncols=3, loc="upper center", handlelength=0.8, columnspacing=0.8)


def against_level(axis, found, rows):
    levels, main = found.settings["levels"], found.settings["guidance"][-1]
    name = {found.settings["level"]: f"guidance {main:g}"}
    shares = [rows[name.get(level, f"level {level}")]["digits"] for level in levels]
    axis.plot(levels, shares, "o-", color=COLOURS[0], label="trained with noise")
    axis.plot([0], [rows["plain"]["digits"]], "D", color=COLOURS[2], label="without")
    axis.set(xlabel="level of noise, steps", ylim=(0, 1), title="digits right")
    axis.legend(fontsize=7)


def caption(found):
    settings = found.settings
    main = settings["guidance"][-1]
    return (
        "Above, captions (a star: held out in training) and from top to bottom: samples without guidance, enlarged; "
        f"8×8 samples with w = {main:g}; these enlarged to 32×32 by a super-resolution model trained without noise on its "
        f"condition, and by one with noise up to level {settings['upsampling']['augmentation']}, here at level "
        f"{settings['level']}; real test scenes. Below, judged by classifiers of real scenes on a sample for each caption: "
        "the share in which everything the caption says is so, against guidance; each aspect for real scenes, real "
        "small scenes enlarged, and samples; the share with the right digits against the level of noise on the 8×8 "
        "samples."
    )


def table(found):
    """A row a set of scenes, a share a column."""
    return pandas.DataFrame(found.details["aspects"]).rename(
        columns={
            "of": "scenes",
            "all_seen": "all, trained captions",
            "all_held_out": "all, held-out captions",
        }
    )
