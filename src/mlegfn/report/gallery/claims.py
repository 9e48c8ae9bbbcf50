"""claims-gallery.yaml: what the lecture notes say and what must be true of the gallery, each with a test.

A file of its own, so that a claim about a station makes no other verdict stale. As in claims.yaml, no verdict can
stand in it. This module adds the kind of test to those of :mod:`mlegfn.report.verdict`.
"""

import math
import re
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mlegfn import gallery
from mlegfn.errors import UserError
from mlegfn.report import statistics
from mlegfn.report.claims import Claim, Text
from mlegfn.report.evidence import TESTS, Evidence, Part, normal
from mlegfn.report.statistics import Interval
from mlegfn.setting import Block
from mlegfn.validation import rule, shown, validate
from mlegfn.yaml_file import read_yaml

CLAIMS = "claims-gallery.yaml"
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


class GalleryClaim(Block):
    claim: Text
    paper: Text
    source: Text
    scales: Annotated[list[Text], Field(min_length=1)] | None
    test: GalleryBelow


def load(path=CLAIMS):
    """The claims of ``path`` in its order; every mistake of all claims at once in one UserError."""
    raw = read_yaml(path)
    if not isinstance(raw, dict) or not raw:
        raise UserError(
            f"{path}: expected claims, each under its name, got {shown(raw)}; restore it from git"
        )
    claims, errors = [], []
    for name, value in raw.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
            errors.append(f"{path}: {shown(name)}: not a name; use lower-case letters, digits and hyphens")
        try:
            claims.append(Claim(name, **dict(validate(GalleryClaim, value, f"{path}: {shown(name)[1:-1]}"))))
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\n".join(errors))
    return claims


def gallery_below(metrics, test):
    """One part: the quantity minus its limit."""
    statement = f"`{test.quantity}` of the station `{test.station}`: below {test.limit:g}"
    station = metrics.stations.get(test.station)
    if station is None:
        return Evidence([], [f"the station {test.station}"], "", statement, None, "")
    found = station["quantities"].get(test.quantity)
    if found is None:
        return Evidence([], [f"{test.quantity} of {test.station}"], "", statement, None, "")
    values = np.array(found["values"], dtype=np.float64) - test.limit
    if len(values) > 1:
        interval, notes = Interval(*statistics.student(values), len(values)), "interval over seeds"
    elif found["standard_error"] is not None:
        interval = normal(float(values[0]), found["standard_error"])
        notes = "one seed; the interval covers the estimate's own error"
    else:
        interval = Interval(float(values[0]), float(values[0]), float(values[0]), 1)
        notes = "one value, without an interval"
    holds = bool(interval.high < 0) and math.isfinite(interval.high)
    return Evidence(
        [Part(test.station, interval, holds)],
        [],
        found["unit"],
        f"{found['what']}, minus {test.limit:g}: 95 % interval below 0",
        None,
        notes,
    )


TESTS.update(gallery_below=gallery_below)
