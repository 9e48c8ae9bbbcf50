"""What the stations of a scale measured, as the report reads it."""

from pathlib import Path
from types import SimpleNamespace

from reproduction import gallery
from reproduction.drawing.inputs import arrays, contents

__all__ = ["of_station", "read", "tensors"]

KEYS = ("title", "order", "notes", "about", "settings", "quantities", "details")


def of_station(scale, station, root="results"):
    """The contents of a station's metrics file; a missing or misfitting one is a UserError."""
    path = Path(root, scale, "gallery", "metrics", f"{station}.json")
    return contents(path, gallery.stage_name(scale, station), *KEYS)


def tensors(scale, station, root="results"):
    """{name: array} that the station left; a missing or broken file is a UserError."""
    path = Path(root, scale, "gallery", "stations", f"{station}.safetensors")
    return arrays(path, (), gallery.stage_name(scale, station))


def read(scale, stations, root="results"):
    """What ``verdict.decide`` reads: name, and {station: contents} of the ``stations``."""
    return SimpleNamespace(
        name=scale, stations={station: of_station(scale, station, root) for station in stations}
    )
