"""Figure 3's trajectories, frame by frame, read back from the figure that git holds.

The states themselves lie in DVC's cache and are often not pulled. The figure draws each of their pixels as a
square, so that its picture holds all of them, in 256 levels: at the middle of each square.
"""

import base64
import io
import math
import re
from pathlib import Path

from reproduction.images.report.figure3 import GAP, SIDE

__all__ = ["read", "steps", "uri"]

PICTURE = re.compile(r"data:image/png;base64,([^\"]*)\"")


def read(scale, settings, dims):
    """``{"sprite": data URI, "paths": n, "times": [t], "side": pixels}``, or None where the figure is not as expected.

    The sprite has a row a path and a column a time, an image's pixel a pixel.

    :param settings: the block of params.yaml of the images at this scale
    :param dims: values of an image
    """
    import numpy as np
    from PIL import Image

    file = Path("results", scale, "images", "figures", "figure3.svg")
    embedded = PICTURE.search(file.read_text(encoding="utf-8")) if file.is_file() else None
    if embedded is None:
        return None
    with Image.open(io.BytesIO(base64.b64decode(embedded[1]))) as image:
        picture = np.asarray(image.convert("RGB"))[::-1]  # an SVG's image is drawn upside down
    times, rows = (
        steps(settings.diffusion.timesteps, settings.trajectories.columns),
        settings.trajectories.shown,
    )
    side = side_of(dims)
    if side is None or not fits(picture.shape, rows, len(times), side):
        return None
    down, across = (_middles(n, side, length) for n, length in zip((rows, len(times)), picture.shape))
    sprite = Image.fromarray(picture[np.ix_(down, across)])
    buffer = io.BytesIO()
    sprite.save(buffer, "PNG", optimize=True)
    return {
        "sprite": uri(buffer.getvalue(), "png"),
        "paths": rows,
        "times": times,
        "side": side,
    }


def uri(content, kind):
    """A data URI of an image's bytes."""
    media = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def steps(timesteps, columns):
    """The times that the stage `trajectories` keeps: ``columns`` evenly spaced ones from T down to 0, rounded."""
    return sorted({round(k * timesteps / (columns - 1)) for k in range(columns)}, reverse=True)


def side_of(dims):
    """The side of a square image of ``dims`` values, grey or of three colours; None of any other."""
    for channels in (1, 3):
        side = math.isqrt(dims // channels)
        if side * side * channels == dims:
            return side
    return None


def fits(shape, rows, columns, side):
    """Whether a picture [height, width, …] is a sheet of so many images, drawn at least twice as large."""
    height, width = shape[:2]
    cell = -(-SIDE // side) * side + GAP
    wanted = (columns * cell - GAP) / (rows * cell - GAP)
    return abs(width / height / wanted - 1) < 0.004 and min(width / columns, height / rows) >= 2 * side


def _middles(images, side, length):
    """Where in ``length`` drawn pixels the middle of each of the images' pixels lies."""
    zoom = -(-SIDE // side)
    cell = side * zoom + GAP
    full = images * cell - GAP
    return [
        int((k * cell + (pixel + 0.5) * zoom) / full * length) for k in range(images) for pixel in range(side)
    ]
