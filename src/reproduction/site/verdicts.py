"""The verdict files of a scale → rows of the page's table."""

from pathlib import Path

from mlegfn.artifacts import read_json
from mlegfn.errors import UserError
from reproduction.settings.yaml_file import read_yaml
from reproduction.site import artifacts, markup, readings

__all__ = ["of_scale", "tests"]


def tests():
    """{(experiment, claim): its test as claims/<experiment>.yaml has it}; a file of no claims is a UserError."""
    tests = {}
    for path in sorted(Path("claims").glob("*.yaml")):
        claims = read_yaml(path)
        if not isinstance(claims, dict) or not all(
            isinstance(claim, dict) and isinstance(claim.get("test"), dict) for claim in claims.values()
        ):
            raise UserError(f"{path}: expected claims, each with its test; restore it from git")
        tests.update({(path.stem, name): claim["test"] for name, claim in claims.items()})
    return tests


def of_scale(scale, records):
    """The verdicts of a scale as the page shows them, experiment by experiment, in the order of the claims."""
    verdicts = []
    for experiment in artifacts.EXPERIMENTS:
        path = artifacts.folder(scale, experiment) / "report" / "verdict.json"
        if not path.is_file() or artifacts.former(scale, experiment):
            continue
        stage = records.stage_of(path)
        measured = records.measured(scale, experiment)
        with artifacts.written(path):
            rows = read_json(path)["claims"]
            same = readings.same_as([row["claim"] for row in rows])
            paper = readings.PAPERS[experiment]
            verdicts += [
                {
                    **row,
                    "scale": scale,
                    "experiment": experiment,
                    "stage": stage,
                    "same_as": before,
                    "origin": readings.origin(row, paper),
                    "paper_id": paper,
                    "number": None
                    if row["estimate"] is None
                    else readings.number(row["estimate"], row["unit"]),
                    "interval_text": readings.interval(row),
                    "unit_text": readings.unit_of(row),
                    "reading": [markup.code(text) for text in readings.reading(row)],
                    "commit": records.shown[stage]["commit"] if stage else None,
                    "device": readings.listed(measured["devices"]) if measured else "not recorded",
                }
                for row, before in zip(rows, same)
            ]
    return verdicts
