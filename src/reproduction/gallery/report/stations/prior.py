"""The figure of prior and decoder: captions drawn, the way between two pictures, variations of one; cosines."""

import numpy as np

from reproduction.drawing import style
from reproduction.gallery.report.sheets import broken, grid

SIZE = 32  # pixels of a picture
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"


def plot(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 4.9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[3.1, 1])
    pictures(left.subplots(), result)
    cosines, shares = right.subplots(2, 1)
    bars(
        cosines,
        result,
        "cosine to a scene",
        {
            "cosine_scenes": ("another\nscene", style.GREY),
            "cosine_prior": ("prior", BLUE),
            "cosine_prior_held_out": ("prior,\nheld out", ORANGE),
            "cosine_text": ("caption\nitself", GREEN),
            "cosine_shuffled": ("prior,\nshuffled", style.GREY),
        },
    )
    bars(
        shares,
        result,
        "caption right in full",
        {
            "all_real": ("real", style.GREY),
            "all_image": ("decoded\nfrom real", style.GREY),
            "all": ("prior", BLUE),
            "all_held_out": ("prior,\nheld out", ORANGE),
            "all_text": ("no prior", GREEN),
        },
    )
    return figure


def pictures(axis, result):
    from matplotlib.patches import Rectangle

    tensors = result.tensors
    rows = {
        "captions": tensors["imagined"],
        "on the way": tensors["way-0"],
        "on the way ": tensors["way-1"],
        "variations": tensors["variations-0"],
        "variations ": tensors["variations-1"],
    }
    grid(axis, rows, [broken(text) for text in result.details["captions"]], SIZE)
    for row in (3, 4):  # the real scene stands out from its variations
        corner = (-0.5, row * (SIZE + 1) - 0.5)
        axis.add_patch(Rectangle(corner, SIZE, SIZE, fill=False, color=ORANGE, linewidth=1.6))


def bars(axis, result, title, names):
    for place, (name, (_, colour)) in enumerate(names.items()):
        quantity = result.quantities[name]
        error = 1.96 * (quantity["standard_error"] or 0)
        axis.bar(place, quantity["values"][0], 0.7, color=colour, alpha=0.75, yerr=error, ecolor=style.INK)
    axis.set_xticks(np.arange(len(names)), [label for label, _ in names.values()], fontsize=7, rotation=90)
    axis.tick_params(axis="x", length=0)
    axis.grid(False, axis="x")
    axis.set(ylim=(0, 1), title=title)


def caption(result):
    settings = result.settings
    return (
        "Left, from top to bottom: captions (the last two held out in training), turned into an image embedding by the "
        "prior and decoded; two ways along the great circle between the embeddings of two real test scenes, decoded "
        "from equal noise; and a real test scene (orange) with decodings of its own embedding from other noise. All are "
        "drawn at 8×8 and enlarged by the cascade's super-resolution. Right, over all captions, with 95 % intervals: the "
        "cosine with a real scene's embedding of that of another scene of the caption, of the prior's sample "
        f"(the better of {settings['candidates']}), of the caption's own embedding, and of the prior's for another "
        "caption; and the share of pictures in which everything the caption says is so."
    )
