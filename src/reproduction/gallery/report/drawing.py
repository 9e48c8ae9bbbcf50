"""A station's figure, caption and table, by the file of its name in the folder ``stations``."""

import importlib
from types import SimpleNamespace

import pandas

from reproduction.drawing import style
from reproduction.gallery.report import measured


def files(scale, station, root="results"):
    """{path below results/<scale>/gallery: bytes or text} of one station."""
    module = importlib.import_module(f"reproduction.gallery.report.stations.{station}")
    result = SimpleNamespace(
        **measured.of_station(scale, station, root), tensors=measured.tensors(scale, station, root)
    )
    formats = style.draw(settled, module.plot, result)
    table = module.table(result) if hasattr(module, "table") else quantities(result)
    caption = f"**{result.title}** (scale `{scale}`). {module.caption(result)}"
    return {
        **{f"figures/{station}.{ending}": content for ending, content in formats.items()},
        f"figures/{station}.md": caption + "\n",
        f"tables/{station}.csv": table.to_csv(index=False, lineterminator="\n"),
        f"tables/{station}.md": f"{result.title} (scale `{scale}`). {result.about}\n\n{markdown(table)}\n",
    }


def settled(plot, result):
    """The figure of ``plot(result)``, laid out, at positions rounded to a millionth of its size.

    The solver of matplotlib's constrained layout visits its variables in an order that depends on their addresses, so
    that with subfigures the last digits differ from run to run, and with them the names of clip paths in SVG and PDF.
    """
    from matplotlib.transforms import Bbox

    figure = plot(result)
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


def quantities(result):
    """A row a quantity: what, mean over seeds, standard deviation or standard error, unit."""
    rows = []
    for value in result.quantities.values():
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
        colalign=["right" if right else "left" for right in numeric],
        disable_numparse=True,
    )


def cell(value):
    if isinstance(value, float):
        return "" if pandas.isna(value) else f"{value:.4g}".replace("-", "−")
    return str(value).replace("|", "\\|")
