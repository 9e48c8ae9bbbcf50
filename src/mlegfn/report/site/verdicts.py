"""The verdict files of a scale → rows of the page's table."""

from functools import partial
from pathlib import Path

from mlegfn.artifacts import read_json
from mlegfn.report import claims
from mlegfn.report.gallery import claims as gallery_claims
from mlegfn.report.site import markup, readings
from mlegfn.report.site.files import written_by

# {name of a verdict file: (the stage that makes it, what loads the claims that it decides)}
REPORTS = {
    "verdict": ("verdict", partial(claims.load, report="images")),
    "discrete": ("discrete_report", partial(claims.load, report="discrete")),
    "divergences": ("divergences_report", partial(claims.load, report="divergences")),
    "gallery": ("gallery_report", gallery_claims.load),
}


def tests():
    """``{claim: its test}`` of every claim in every file; broken ones are a UserError."""
    return {each.id: each.test for _, load in REPORTS.values() for each in load()}


def of_scale(scale, stages, record_of, measured_at):
    """The verdicts of a scale as the page shows them, in the order of claims.yaml.

    ``record_of(stage)``: its provenance or None; ``measured_at(scale)``: as of records.measured.
    """
    found = []
    for name, (stage, _) in REPORTS.items():
        path = Path("results", scale, "report", f"{name}.json")
        if f"{stage}@{scale}" not in stages or not path.is_file():
            continue
        record = record_of(f"{stage}@{scale}")
        measured = measured_at(scale)
        with written_by(f"{stage}@{scale}", path):
            rows = read_json(path)["claims"]
            same = readings.same_as([row["claim"] for row in rows])
            found += [
                {
                    **row,
                    "scale": scale,
                    "stage": f"{stage}@{scale}",
                    "same_as": before,
                    "origin": readings.origin(row, readings.PAPERS[name]),
                    "paper_id": readings.PAPERS[name],
                    "number": None
                    if row["estimate"] is None
                    else readings.number(row["estimate"], row["unit"]),
                    "interval_text": readings.interval(row),
                    "unit_text": readings.unit_of(row),
                    "reading": [markup.code(text) for text in readings.reading(row)],
                    "commit": record and record["commit"],
                    "device": readings.listed(measured["devices"]) if measured else "not recorded",
                }
                for row, before in zip(rows, same)
            ]
    return found
