"""The figure of the cascade: captions with what was drawn, enlarged, and the share that is right."""

import numpy as np
import pandas

from reproduction.drawing import style
from reproduction.gallery.report.sheets import broken, grid

SIZE = 32  # pixels of a picture
ROWS = {
    "untold": "unguided",
    "small": "guided, 8×8",
    "plain": "enlarged by the\nmodel without noise",
    "large": "enlarged",
    "real": "real scenes",
}
COLOURS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00")
ASPECTS = {"digits": "digits", "place": "place", "size": "size", "relation": "relation", "dark": "dark"}


def plot(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 6.2), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[2.5, 1])
    pictures(above.subplots(), result)
    guidance, aspects, levels = below.subplots(1, 3, width_ratios=[1, 1.25, 1])
    rows = {row["of"]: row for row in result.details["aspects"]}
    against_guidance(guidance, result, rows)
    by_aspect(aspects, result, rows)
    against_level(levels, result, rows)
    return figure


def pictures(axis, result):
    """A column a caption, which stands above it; a row a kind of picture."""
    titles = [
        broken(text) + (" *" if out else "")
        for text, out in zip(result.details["captions"], result.details["held_out"], strict=True)
    ]
    grid(axis, {label: result.tensors[name] for name, label in ROWS.items()}, titles, SIZE)


def against_guidance(axis, result, rows):
    weights = result.settings["guidance"]
    for group, label, colour in (
        ("seen", "trained on", COLOURS[0]),
        ("held_out", "held out", COLOURS[2]),
    ):
        shares = [rows[f"guidance {w:g}"][f"all_{group}"] for w in weights]
        axis.plot(weights, shares, "o-", color=colour, label=label)
    axis.set(xlabel="guidance w", ylim=(0, 1), title="caption right in full")
    axis.legend(fontsize=7)


def by_aspect(axis, result, rows):
    """Real scenes beside samples, an aspect each."""
    main = f"guidance {result.settings['guidance'][-1]:g}"
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


def against_level(axis, result, rows):
    levels, main = result.settings["levels"], result.settings["guidance"][-1]
    name = {result.settings["level"]: f"guidance {main:g}"}
    shares = [rows[name.get(level, f"level {level}")]["digits"] for level in levels]
    axis.plot(levels, shares, "o-", color=COLOURS[0], label="trained with noise")
    axis.plot([0], [rows["plain"]["digits"]], "D", color=COLOURS[2], label="without")
    axis.set(xlabel="level of noise, steps", ylim=(0, 1), title="digits right")
    axis.legend(fontsize=7)


def caption(result):
    settings = result.settings
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


def table(result):
    """A row a set of scenes, a share a column."""
    return pandas.DataFrame(result.details["aspects"]).rename(
        columns={
            "of": "scenes",
            "all_seen": "all, trained captions",
            "all_held_out": "all, held-out captions",
        }
    )
