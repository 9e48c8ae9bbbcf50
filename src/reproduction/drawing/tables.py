"""How tables show numbers, and a table as GitHub's Markdown."""

import pandas

__all__ = ["fine", "markdown", "number", "signed", "spread"]


def signed(value, digits=4):
    """``−0.0012``, with a sign and the typographic minus; nothing for a missing value."""
    return "" if pandas.isna(value) else f"{value:+.{digits}f}".replace("-", "−")


def number(value, digits=4):
    """``1.2346``, with the typographic minus; nothing for a missing value."""
    return "" if pandas.isna(value) else f"{value:.{digits}f}".replace("-", "−")


def fine(value):
    """A standard error of paired values: small, so one digit more."""
    return number(value, 5)


def spread(key, digits=4, factor=1):
    """A function of a row: the column ``key`` ± the column ``<key>_deviation``, both times ``factor``."""

    def show(row):
        mean, deviation = row[key] * factor, row[f"{key}_deviation"]
        return number(mean, digits) + (
            "" if pandas.isna(deviation) else f" ± {number(deviation * factor, digits)}"
        )

    return show


def markdown(frame, columns):
    """``frame`` as a GitHub table with ``columns`` ({title: row → text}); numbers to the right."""
    from tabulate import tabulate

    rows = [[show(row) for show in columns.values()] for row in frame.to_dict("records")]
    words = {"arm", "problem", "model"}
    return tabulate(
        rows,
        headers=[title.strip() for title in columns],
        tablefmt="pipe",
        colalign=["left" if title in words else "right" for title in columns],
        disable_numparse=True,
    )
