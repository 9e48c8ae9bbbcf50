"""How claims/gallery.yaml is decided from what the stations measured: its two kinds of test."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from reproduction import gallery
from reproduction.settings.types import Block, Positive
from reproduction.settings.validation import rule
from reproduction.verdicts import statistics
from reproduction.verdicts.claims import Text
from reproduction.verdicts.evidence import Evidence, Part, below, equivalent, estimated
from reproduction.verdicts.statistics import Interval

__all__ = ["KINDS", "TESTS"]

Finite = Annotated[float, Field(allow_inf_nan=False)]


def known_station(station):
    if station not in gallery.names():
        return f"no station {station!r}; there are {', '.join(gallery.names())}"


class GalleryBelow(Block):
    """``quantity`` is below ``limit``."""

    kind: Literal["gallery_below"]
    station: Text
    quantity: Text
    limit: Finite

    station_exists = rule("station")(known_station)


class GalleryAlike(Block):
    """Each of ``quantities``, which are differences, is 0 to within ``margin``."""

    kind: Literal["gallery_alike"]
    station: Text
    quantities: Annotated[list[Text], Field(min_length=1)]
    margin: Positive = Field(description="the largest difference that still counts as none, in their unit")

    station_exists = rule("station")(known_station)


def gallery_below(metrics, test):
    """One part: the quantity minus its limit."""
    measured, untested = _measured(metrics, test.station, [test.quantity])
    if untested:
        statement = f"`{test.quantity}` of the station `{test.station}`: below {test.limit:g}"
        return Evidence([], untested, "", statement, None, "")
    interval = _interval(measured[0], test.limit)
    return Evidence(
        [Part(test.station, interval, below(interval))],
        [],
        measured[0]["unit"],
        f"{measured[0]['what']}, minus {test.limit:g}: 95 % interval below 0",
        None,
        _covers(test.station, interval),
    )


def gallery_alike(metrics, test):
    """A part a quantity, by two one-sided tests (``verdicts.evidence.equivalent``)."""
    measured, untested = _measured(metrics, test.station, test.quantities)
    rule = f"the 90 % interval within ± {test.margin:g}, shown is that at 95 %"
    if untested:
        names = ", ".join(f"`{name}`" for name in test.quantities)
        return Evidence([], untested, "", f"{names} of the station `{test.station}`: {rule}", None, "")
    parts = []
    for name, quantity in zip(test.quantities, measured, strict=True):
        wide, narrow = _interval(quantity), _interval(quantity, level=statistics.NARROW)
        parts.append(Part(f"{test.station}: {name}", wide, equivalent(narrow, wide, test.margin)))
    return Evidence(
        parts,
        [],
        measured[0]["unit"],
        f"{'; '.join(quantity['what'] for quantity in measured)}: {rule}",
        "measurement" if len(parts) > 1 else None,
        _covers(test.station, parts[0].interval),
    )


def _measured(metrics, station, names):
    """(what the metrics have of the quantities ``names``, those that have no interval or are not there)."""
    if station not in metrics.stations:
        return [], [f"the station {station}"]
    quantities = metrics.stations[station]["quantities"]
    if absent := [name for name in names if name not in quantities]:
        return [], [f"{name} of {station}" for name in absent]
    single = [
        name
        for name in names
        if len(quantities[name]["values"]) == 1 and quantities[name]["standard_error"] is None
    ]
    return [quantities[name] for name in names], [f"an error of {name} of {station}" for name in single]


def _interval(measured, limit=0.0, level=statistics.LEVEL):
    """The interval of a quantity minus ``limit``: over seeds, or from its standard error."""
    values = np.array(measured["values"], dtype=np.float64) - limit
    if len(values) > 1:
        return Interval(*statistics.student(values, level), len(values))
    return estimated(float(values[0]), measured["standard_error"], measured.get("count"), level)


def _covers(station, interval):
    """What an interval covers, and what it does not."""
    once = gallery.trained_once(station)
    if interval.seeds == 1:
        covers = "one seed; the interval covers the estimate's own error"
    else:
        covers = "interval over seeds of sampling" if once else "interval over seeds"
    return f"{covers}; one training, which it does not cover" if once else covers


KINDS = {"gallery_below": GalleryBelow, "gallery_alike": GalleryAlike}
TESTS = {"gallery_below": gallery_below, "gallery_alike": gallery_alike}
