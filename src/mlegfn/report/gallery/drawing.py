"""A station's figure, caption and table, by the file of its name in this folder."""

import importlib
from types import SimpleNamespace

import pandas

from mlegfn.report import style
from mlegfn.report.gallery import measured


def make(scale, station, root="results"):
    """``{folder: {file name: bytes or text}}`` of the stage ``station_figure``."""
    module = importlib.import_module(f"mlegfn.report.gallery.{station}")
    found = SimpleNamespace(
        **measured.of_station(scale, station, root), tensors=measured.tensors(scale, station, root)
    )
    name, formats = f"gallery-{station}", style.draw(settled, module.plot, found)
    table = module.table(found) if hasattr(module, "table") else quantities(found)
    caption = f"**{found.title}** (scale `{scale}`). {module.caption(found)}"
    return {
        "figures": {
            **{f"{name}.{ending}": content for ending, content in formats.items()},
            f"{name}.md": caption + "\n",
        },
        "tables": {
            f"{name}.csv": table.to_csv(index=False, lineterminator="\n"),
            f"{name}.md": f"{found.title} (scale `{scale}`). {found.about}\n\n{markdown(table)}\n",
        },
    }


def settled(plot, found):
    """The figure of ``plot(found)``, laid out, at positions rounded to a millionth of its size.

    The solver of matplotlib's constrained layout visits its variables in an order that depends on their addresses, so
    that with subfigures the last digits differ from run to run, and with them the names of clip paths in SVG and PDF.
    """
    from matplotlib.transforms import Bbox

    figure = plot(found)
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for part in nested(figure):
            part.bbox_relative.set_points(part.bbox_relative.get_points().round(6))
        for axes in figure.get_axes():
            axes.set_position(Bbox(axes.get_position(original=True).get_points().round(6)))
    return figure


def nested(figure):
    """Every subfigure, outer ones first."""
    for part in figure.subfigs:
        yield part
        yield from nested(part)


def quantities(found):
    """A row a quantity: what, mean over seeds, standard deviation or standard error, unit."""
    rows = []
    for value in found.quantities.values():
        values = pandas.Series(value["values"], dtype=float)
        several = len(values) > 1
        rows.append(
            {
                "what": value["what"],
                "value": values.mean(),
                "error": values.std() / len(values) ** 0.5 if several else value["standard_error"],
                "unit": value["unit"],
                "seeds": len(values),
            }
        )
    return pandas.DataFrame(rows)


def markdown(table):
    """A GitHub table of a frame: numbers with four digits that matter, right-aligned."""
    from tabulate import tabulate

    numeric = [pandas.api.types.is_numeric_dtype(table[column]) for column in table]
    rows = [[cell(value) for value in row] for row in table.itertuples(index=False)]
    return tabulate(
        rows,
        headers=list(table.columns),
        tablefmt="pipe",
        colalign=["right" if each else "left" for each in numeric],
        disable_numparse=True,
    )


def cell(value):
    if isinstance(value, float):
        return "" if pandas.isna(value) else f"{value:.4g}".replace("-", "−")
    return str(value).replace("|", "\\|")
