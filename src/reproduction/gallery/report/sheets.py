"""Sheets of images for the figures on images."""

import numpy as np


def sheet(images, columns, gap=1, ground=1.0):
    """[N, C, H, W] in [−1, 1] → [rows·(H + gap), columns·(W + gap)(, 3)] in [0, 1], white (``ground``) between them."""
    images = (np.clip(np.asarray(images, dtype=np.float32), -1, 1) + 1) / 2
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    out = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), ground, np.float32)
    for k, image in enumerate(images):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        out[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return out[..., 0] if channels == 1 else out


def show(axis, images, columns, title="", gap=1):
    """Draw ``sheet`` without any axes."""
    axis.imshow(sheet(images, columns, gap), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_axis_off()
    axis.set_title(title)


def headed(axis, images, heads, gap=1):
    """Draw rows of images [N, K, C, H, W], K of them in a row, under K heads, with a white line between them."""
    columns, width = images.shape[1], images.shape[-1]
    axis.imshow(
        sheet(images.reshape(-1, *images.shape[2:]), columns, gap),
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axis.set(
        yticks=[], xticks=[k * (width + gap) + (width - 1) / 2 for k in range(columns)], xticklabels=heads
    )
    axis.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def grid(axis, rows, titles, size, gap=1):
    """A row of pictures for each of {label: images [N, 1, H, W]}, enlarged to ``size`` pixels, a column for each of titles.

    Grey lines between them, so that white pictures have edges. Labels stand beside the rows, titles above the columns.
    """
    import matplotlib

    enlarged = [
        np.asarray(images).repeat(size // images.shape[2], 2).repeat(size // images.shape[3], 3)
        for images in rows.values()
    ]
    shown = sheet(np.concatenate(enlarged), len(titles), gap, ground=0.6)
    axis.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    centres = size / 2 - 0.5 + (size + gap) * np.arange(max(len(rows), len(titles)))
    axis.set_yticks(centres[: len(rows)], list(rows), fontsize=7)
    axis.set_xticks(centres[: len(titles)], titles, fontsize=7)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.grid(False)
    for side in axis.spines.values():
        side.set(visible=True, color=matplotlib.colors.to_hex("0.6"), linewidth=0.5)


def broken(text, width=11):
    """A caption in lines of about ``width`` letters, which fit above a picture."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
