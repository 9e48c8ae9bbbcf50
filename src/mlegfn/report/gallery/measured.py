"""What the stations of a scale measured, as the report reads it."""

from pathlib import Path
from types import SimpleNamespace

from mlegfn.report.inputs import arrays, contents

KEYS = ("title", "order", "notes", "about", "settings", "quantities", "details")


def of_station(scale, station, root="results"):
    """The contents of a station's metrics file; a missing or misfitting one is a UserError."""
    path = Path(root, scale, "metrics", "gallery", f"{station}.json")
    return contents(path, f"station@{scale}-{station}", *KEYS)


def tensors(scale, station, root="results"):
    """{name: array} that the station left."""
    return arrays(Path(root, scale, "gallery", f"{station}.safetensors"), (), f"station@{scale}-{station}")


def read(scale, block, root="results"):
    """What ``verdict.decide`` reads: name, and {station: contents} of the stations in the scale's block ``gallery``."""
    return SimpleNamespace(
        name=scale, stations={station: of_station(scale, station, root) for station in block.names}
    )
