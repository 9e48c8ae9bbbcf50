"""Sheets of images for the figures on images."""

import numpy as np


def sheet(images, columns, gap=1):
    """[N, C, H, W] in [−1, 1] → [rows·(H + gap), columns·(W + gap)(, 3)] in [0, 1], white between them."""
    images = (np.clip(np.asarray(images, dtype=np.float32), -1, 1) + 1) / 2
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    out = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), np.float32)
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
