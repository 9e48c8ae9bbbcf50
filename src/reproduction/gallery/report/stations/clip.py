"""The figure of CLIP: scenes against captions, the loss, and retrieval."""

import numpy as np

from reproduction.drawing import style
from reproduction.gallery.report.sheets import sheet

BLUE, ORANGE = "#0072b2", "#d55e00"


def plot(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 3.9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[2.1, 1])
    matrix(left, result)
    loss, retrieval = right.subplots(2, 1, height_ratios=[1, 1.4])
    log = result.details["loss"]
    loss.plot([entry["step"] for entry in log], [entry["loss"] for entry in log], color=BLUE)
    loss.set(xlabel="step", yscale="log", title="loss, nats")
    bars(retrieval, result)
    return figure


def matrix(figure, result):
    """Cosines of scenes, above their columns, with captions, beside their rows."""
    details = result.details
    cosines = np.array(details["cosines"]).T  # a row a caption
    count = len(cosines)
    axis = figure.subplots()
    shown = axis.imshow(cosines, cmap="Blues", vmin=min(0, cosines.min()), vmax=1, aspect="equal")
    axis.set_xticks([])
    labels = [
        caption + (" *" if out else "")
        for caption, out in zip(details["captions"], details["held_out"], strict=True)
    ]
    axis.set_yticks(range(count), labels, fontsize=7)
    axis.tick_params(length=0)
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)
    strip = axis.inset_axes([0, 1.01, 1, 1 / count])
    strip.imshow(sheet(result.tensors["scenes"], count, gap=1, ground=0.6), cmap="gray", vmin=0, vmax=1)
    strip.set(xticks=[], yticks=[])
    strip.grid(False)
    for side in strip.spines.values():
        side.set(visible=True, color=style.GREY, linewidth=0.4)
    figure.colorbar(shown, ax=axis, shrink=0.6, label="cosine", location="bottom", pad=0.02, aspect=30)


def bars(axis, result):
    """Mean accuracy over seeds, a dot a seed."""
    names = {
        "caption_of_scene": "caption\nof scene",
        "scene_of_caption": "scene of\ncaption",
        "caption_of_scene_held_out": "caption,\nheld out",
        "scene_of_caption_held_out": "scene,\nheld out",
        "shuffled": "captions\nshuffled",
    }
    for place, (name, label) in enumerate(names.items()):
        values = result.quantities[name]["values"]
        colour = style.GREY if name == "shuffled" else ORANGE if "held_out" in name else BLUE
        axis.barh(place, np.mean(values), height=0.65, color=colour, alpha=0.55)
        axis.plot(values, [place] * len(values), ".", color=colour, markersize=4)
        names[name] = label.replace("\n", " ")
    axis.set_yticks(range(len(names)), names.values(), fontsize=7)
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.05), title="top-1 accuracy")


def caption(result):
    settings = result.settings
    count = round(1 / result.quantities["chance"]["values"][0])
    return (
        "Left, cosines of captions (rows) with test scenes (columns, in the same order), first seed; the scenes' digits "
        "were not trained on, and neither were captions with a star. The temperature has become "
        f"{result.details['temperature']:.3f}. Right, the contrastive loss of {settings['batch']} pairs along "
        f"{settings['steps']} steps, and how often the nearest of {count} is the right one: bars are means over "
        f"{len(settings['seeds'])} seeds, a dot a seed; orange, captions that were held out."
    )
