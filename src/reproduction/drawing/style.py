"""How the figures look, and how they become equal bytes for equal input.

matplotlib is imported inside the functions: it takes a second, and only the stages that draw need it.
"""

import io

__all__ = [
    "ARMS",
    "FORMATS",
    "GREY",
    "INK",
    "METADATA",
    "SETTINGS",
    "WIDTH",
    "checkpoint_colours",
    "draw",
    "encode",
    "short",
]

WIDTH = 6.5  # inches: the text width of a page with 1-inch margins, at which every font is ≥ 7 pt
FORMATS = ("pdf", "svg", "png")

GREY = "#8c8c8c"
INK = "#262626"
# Okabe & Ito's palette, told apart under every common colour blindness; the shape says it a second time.
ARMS = {
    "simple": ("#8c8c8c", "s"),
    "simple_tbc": ("#d55e00", "o"),
    "reweighted": ("#009e73", "^"),
    "vlb": ("#0072b2", "s"),
    "vlb_tbc": ("#cc79a7", "D"),
}

# No date, no version of any program: they would change the bytes and say nothing about the content.
METADATA = {
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
    "png": {"Software": None},
}

SETTINGS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that it is the same everywhere
    "mathtext.fontset": "dejavusans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 220,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "mlegfn",
}


def draw(plot, *arguments, **more):
    """Call ``plot(*arguments, **more) -> Figure`` in the house style: ``{"pdf": bytes, "svg": …, "png": …}``.

    A user's matplotlibrc has no say, and nothing of matplotlib's global state is changed.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        figure = plot(*arguments, **more)
        if figure.get_layout_engine() is not None:  # lay out once, so that all formats agree
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        return {format: encode(figure, format) for format in FORMATS}


def encode(figure, format):
    """The bytes of ``figure`` in one format; the canvas is Agg's or the file format's, never a window's."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=format, metadata=METADATA[format])
    return buffer.getvalue()


def checkpoint_colours(n):
    """``n`` colours from dark to light in the order of training; perceptually even (plasma without its pale end)."""
    import matplotlib

    plasma = matplotlib.colormaps["plasma"]
    return [plasma(0.05 + 0.77 * k / max(n - 1, 1)) for k in range(n)]


def short(steps):
    """``20000`` as ``20k``, ``1500`` as it is."""
    return f"{steps // 1000}k" if steps >= 10000 and steps % 1000 == 0 else str(steps)
