"""The stations of the lecture notes on diffusion models, from forward noising to text-to-image, one file each.

A file in this folder that defines a :class:`~mlegfn.gallery.station.Station` *is* its registration: the stages
``station`` and ``station_figure``, the report page and docs/gallery.md go over :func:`names`. Its settings are the
block of its name in :mod:`mlegfn.gallery.settings`, its figure is drawn by the file of its name in
:mod:`mlegfn.report.gallery`.
"""

import re
from pathlib import Path

from mlegfn import registry

__all__ = ["load", "names", "sources", "titles"]

# What stations share; names starting with an underscore are skipped too.
SHARED = {"fitting", "settings", "station"}
MOST = 2  # as many shared packages, and as many stations, a station may read: dvc.yaml has a place for each


def names():
    """The stations' names, sorted: those of their files. Imports none of them, nor torch."""
    return registry.names(__path__, SHARED)


def sources(name):
    """(packages that it shares with others, stations that it reads, whether it reads images), from the text of its file.

    For the pipeline's dependencies. What stations share lies in packages here whose names start with an underscore.
    """
    text = (Path(__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
    shared = sorted(set(re.findall(r"^\s*from mlegfn\.gallery(?:\.| import )(_\w+)", text, re.MULTILINE)))
    reads = re.findall(r"^    reads = \((.*)\)$", text, re.MULTILINE)
    reads = re.findall(r'"(\w+)"', reads[0]) if reads else []
    if len(shared) > MOST or len(reads) > MOST or not set(reads) <= set(names()):
        raise ValueError(f"gallery/{name}.py shares {shared} and reads {reads}: at most {MOST} of each kind")
    images = re.search(r"^    images = True$", text, re.MULTILINE) is not None
    return [f"src/mlegfn/gallery/{each}" for each in shared], reads, images


def titles():
    """{name: (title, part of the lecture notes)} of every station, in the gallery's order, from the texts of their files."""
    found = {}
    for name in names():
        text = (Path(__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
        said = dict(re.findall(r'^    (title|order|notes) = "?([^"\n]*)"?$', text, re.MULTILINE))
        if set(said) != {"title", "order", "notes"}:
            raise ValueError(f"gallery/{name}.py must give title, order and notes, each on a line of its own")
        found[name] = (int(said["order"]), said["title"], said["notes"])
    return {name: found[name][1:] for name in sorted(found, key=found.get)}


def load(name):
    """The ``Station`` class of file ``name``.py.

    :raises ValueError: for a name that is no file here, or a file that defines no station or several
    """
    return registry.load(__name__, name, "Station", names())
