"""How claims/gallery.yaml is decided from what the stations measured: its one kind of test."""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from reproduction import gallery
from reproduction.settings.types import Block
from reproduction.settings.validation import rule
from reproduction.verdicts import statistics
from reproduction.verdicts.claims import Text
from reproduction.verdicts.evidence import Evidence, Part, normal
from reproduction.verdicts.statistics import Interval

__all__ = ["KINDS", "TESTS"]

Finite = Annotated[float, Field(allow_inf_nan=False)]


class GalleryBelow(Block):
    """The 95 % interval of ``quantity`` (over seeds, or from its standard error) is below ``limit``; of one value
    without any error, the value is."""

    kind: Literal["gallery_below"]
    station: Text
    quantity: Text
    limit: Finite

    @rule("station")
    def station_exists(station):
        if station not in gallery.names():
            return f"no station {station!r}; there are {', '.join(gallery.names())}"


def gallery_below(metrics, test):
    """One part: the quantity minus its limit."""
    statement = f"`{test.quantity}` of the station `{test.station}`: below {test.limit:g}"
    station = metrics.stations.get(test.station)
    if station is None:
        return Evidence([], [f"the station {test.station}"], "", statement, None, "")
    measured = station["quantities"].get(test.quantity)
    if measured is None:
        return Evidence([], [f"{test.quantity} of {test.station}"], "", statement, None, "")
    values = np.array(measured["values"], dtype=np.float64) - test.limit
    if len(values) > 1:
        interval, notes = Interval(*statistics.student(values), len(values)), "interval over seeds"
    elif measured["standard_error"] is not None:
        interval = normal(float(values[0]), measured["standard_error"])
        notes = "one seed; the interval covers the estimate's own error"
    else:
        interval = Interval(float(values[0]), float(values[0]), float(values[0]), 1)
        notes = "one value, without an interval"
    holds = bool(interval.high < 0) and math.isfinite(interval.high)
    return Evidence(
        [Part(test.station, interval, holds)],
        [],
        measured["unit"],
        f"{measured['what']}, minus {test.limit:g}: 95 % interval below 0",
        None,
        notes,
    )


KINDS = {"gallery_below": GalleryBelow}
TESTS = {"gallery_below": gallery_below}
