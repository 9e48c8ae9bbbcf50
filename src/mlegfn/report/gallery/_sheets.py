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


def columns(axes, images, titles, gap=1):
    """A column of images [N, C, H, W] on each axis, under its title."""
    for axis, each, title in zip(axes, images, titles, strict=True):
        show(axis, each, 1, title, gap)
        axis.set_title(title, loc="center", fontsize=7)
