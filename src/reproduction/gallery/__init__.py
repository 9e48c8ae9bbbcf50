"""The stations of the lecture notes on diffusion models, from forward noising to text-to-image, one file each.

A file of the folder ``stations`` that defines a :class:`~reproduction.gallery.station.Station` *is* its registration:
the report page and docs/gallery.md go over :func:`names`. Its settings are the block of its name in
:mod:`reproduction.gallery.settings`, its figure is drawn by the file of its name in
:mod:`reproduction.gallery.report.stations`. dvc.yaml runs it.
"""

import ast
import re
from pathlib import Path

from mlegfn import registry

__all__ = ["load", "names", "reads", "stage_name", "titles", "trained_once"]

STATIONS = Path(__file__).parent / "stations"
# The stages of dvc.yaml, by how many other stations a station reads: a stage has a fixed number of dependencies.
STAGES = ("station", "reading_station", "prior")


def names():
    """The stations' names, sorted: those of their files. Imports none of them, nor torch."""
    return registry.names([str(STATIONS)])


def reads(name):
    """The names of the stations that a station reads, from the text of its file."""
    return _declared(name).get("reads", ())


def trained_once(name):
    """Whether what is trained for a station's numbers is trained once, whatever its seeds; from the text of its file."""
    return _declared(name).get("trained_once", False)


def stage_name(scale, name):
    """The name in dvc.yaml of the stage that runs a station."""
    return f"{STAGES[len(reads(name))]}@{scale}-{name}"


def titles():
    """{name: (title, part of the lecture notes)} of every station, in the gallery's order, from the texts of their files."""
    declared = {}
    for name in names():
        values = _declared(name)
        if not {"title", "order", "notes"} <= set(values):
            raise ValueError(
                f"stations/{name}.py must give title, order and notes, each on a line of its own"
            )
        declared[name] = (values["order"], values["title"], values["notes"])
    return {name: declared[name][1:] for name in sorted(declared, key=declared.get)}


def load(name):
    """The ``Station`` class of the file ``stations/<name>.py``.

    :raises ValueError: for a name that is no file there, or a file that defines no station or several
    """
    from reproduction.gallery.station import Station

    return registry.load("reproduction.gallery.stations", name, Station, names())


def _declared(name):
    """{attribute: value} of a station's class, of those that a line of its own gives."""
    text = (STATIONS / f"{name}.py").read_text(encoding="utf-8")
    names, values = "title|order|notes|reads|trained_once", r'"[^"\n]*"|\d+|True|\(.*\)'
    lines = re.findall(rf"^    ({names}) = ({values})$", text, re.MULTILINE)
    return {attribute: ast.literal_eval(value) for attribute, value in lines}
