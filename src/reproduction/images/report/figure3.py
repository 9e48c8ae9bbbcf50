"""Figure 3: left, generation trajectories x_T … x_0 on image space; right, a sheet of samples."""

import math

import numpy as np

from reproduction.drawing import style

SIDE = 64  # pixels that an image gets at least: each of its own becomes a square of several
GAP = 4


def plot(samples, levels):
    """``samples``: {"trajectories": [K+1, n, C, H, W] in [−1, 1], "times": [K+1], "samples": uint8 [m, C, H, W]}."""
    from matplotlib.figure import Figure

    states = pixels((np.clip(samples["trajectories"], -1, 1) + 1) / 2)  # [K+1, n, H, W, 3]
    times = samples["times"]
    left = sheet(states.swapaxes(0, 1))
    m = len(samples["samples"])
    rows = max(round(math.sqrt(m)), 1)
    columns = math.ceil(m / rows)
    final = pixels(samples["samples"] / (levels - 1))
    blank = np.ones((rows * columns - m, *final.shape[1:]))
    right = sheet(np.concatenate([final, blank]).reshape(rows, columns, *final.shape[1:]))

    ratios = [picture.shape[1] / picture.shape[0] for picture in (left, right)]
    space = 0.035 * sum(ratios)
    height = (style.WIDTH - 0.1) / (sum(ratios) + space)
    figure = Figure(figsize=(style.WIDTH, height + 0.4))
    bottom, tall = 0.05 / (height + 0.4), height / (height + 0.4)
    x = 0.05 / style.WIDTH
    for picture, ratio, letter in zip((left, right), ratios, ("a", "b")):
        axes = figure.add_axes([x, bottom, ratio * height / style.WIDTH, tall])
        axes.imshow(
            picture, interpolation="nearest", aspect="auto", extent=(0, picture.shape[1], picture.shape[0], 0)
        )
        axes.set_axis_off()
        axes.text(
            0,
            1 + 0.19 / height,
            {"a": "a  generation, one trajectory a row", "b": "b  samples"}[letter],
            transform=axes.transAxes,
            fontweight="bold",
            fontsize=8,
            va="bottom",
        )
        if letter == "a":
            step = (picture.shape[1] + GAP) / len(times)
            for k, t in enumerate(times):
                label = f"t = {t}" if k == 0 else str(t)
                axes.text(
                    (k + 0.5) * step - GAP / 2,
                    -0.02 * picture.shape[0],
                    label,
                    ha="center",
                    va="bottom",
                    fontsize=7,
                )
        x += (ratio + space) * height / style.WIDTH
    return figure


def pixels(images):
    """Images [..., C, H, W] in [0, 1] as RGB [..., H, W, 3]; one channel is grey."""
    images = np.moveaxis(np.asarray(images, dtype=np.float64), -3, -1)
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def sheet(images):
    """Images [rows, columns, H, W, 3] side by side on white, every pixel enlarged to the same square."""
    rows, columns, height, width, _ = images.shape
    zoom = math.ceil(SIDE / max(height, width))
    h, w = height * zoom, width * zoom
    page = np.ones((rows * (h + GAP) - GAP, columns * (w + GAP) - GAP, 3))
    for r in range(rows):
        for c in range(columns):
            top, left = r * (h + GAP), c * (w + GAP)
            page[top : top + h, left : left + w] = images[r, c].repeat(zoom, axis=0).repeat(zoom, axis=1)
    return page


def caption(name, settings, samples):
    """What the figure shows, in Markdown."""
    shown = settings.trajectories
    return f"""**Figure 3** (scale `{name}`). **a** {samples["trajectories"].shape[1]} generation trajectories of the \
model fine-tuned with arm `{shown.arm}` from step {shown.checkpoint}, seed {shown.pretrain_seed}, from x_T (noise) to \
x_0, one a row; values outside [−1, 1] are cut off for display. **b** {len(samples["samples"])} samples of the same \
model, drawn with seed {shown.seed}, none left out.
"""
