"""The spiral's animation: from noise back to the spiral, beside the field that leads there; an animated WebP."""

import io

import numpy as np

from reproduction.drawing import style
from reproduction.gallery.report import measured
from reproduction.gallery.report.stations.spiral import COLOURS, colours, lengths

SIZE, DPI = (style.WIDTH, 3.4), 110  # 715 × 374 pixels
QUALITY = 70
MILLISECONDS = 80  # a frame; the first and the last stay longer
PAUSE = 1500


def make(scale, root="results"):
    """The file's bytes, from what the station left; a missing or broken file of it is a UserError."""
    spiral, tensors = measured.of_station(scale, "spiral", root), measured.tensors(scale, "spiral", root)
    return encode(frames(tensors, spiral["details"], spiral["settings"]["timesteps"]))


def frames(tensors, details, timesteps):
    """[F] RGB arrays [height, width, 3] uint8, t falling; the last shows x_0."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style.SETTINGS)
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        canvas, extent = FigureCanvasAgg(figure), details["extent"]
        cloud, drift = figure.subplots(1, 2)
        for axis in (cloud, drift):
            axis.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(True)
        drift.set_title("drift μ_θ(x, t) − x")
        states, field = tensors["frames"], tensors["frame_field"]
        length, norm = lengths(field)
        directions = field / np.maximum(length, 1e-12)[..., None]
        points = cloud.scatter(*states[0].T, c=colours(states[-1]), cmap=COLOURS, s=5, linewidths=0)
        arrows = drift.quiver(
            *np.moveaxis(tensors["grid"], -1, 0),
            *np.moveaxis(directions[0], -1, 0),
            length[0],
            cmap="magma",
            norm=norm,
            pivot="mid",
            scale=24,
            width=0.005,
        )
        figure.colorbar(arrows, ax=drift, shrink=0.8, label="length")
        drawn = []
        for t, state, direction, much in zip(details["frames"], states, directions, length, strict=True):
            cloud.set_title(f"t = {t} of {timesteps}")
            points.set_offsets(state)
            arrows.set_UVC(*np.moveaxis(direction, -1, 0), much)
            canvas.draw()
            if figure.get_layout_engine() is not None and not drawn:  # nothing may move between frames
                figure.set_layout_engine("none")
            drawn.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        return drawn


def encode(drawn):
    """An animated WebP of RGB arrays, in an endless loop. Lossy: without loss it would be three times as large."""
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in drawn]
    times = [MILLISECONDS] * len(drawn)
    times[0] = times[-1] = PAUSE
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=times,
        loop=0,
        quality=QUALITY,
        method=4,
    )
    return buffer.getvalue()
