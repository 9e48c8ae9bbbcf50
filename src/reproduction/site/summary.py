"""results/summary.json: the numbers of every scale that `dvc metrics show` and `dvc metrics diff` compare.

DVC shows single numbers and texts of a JSON file and leaves out lists, which is what metrics and verdicts are. So this
file repeats some of what the stages wrote; `mlegfn reproduce` writes it, and a test compares.
"""

import csv
import json
from pathlib import Path

from mlegfn.artifacts import read_json, write_text

__all__ = ["SUMMARY", "render", "summary", "write"]

SUMMARY = "results/summary.json"


def summary(root="."):
    """``{scale: {"nll": {arm: {step: bits/dim}}, "planar": {problem: {model: nats}}, "claims": …}}``.

    ``claims``: ``{claim: {"verdict": …, "estimate": …}}``. Scales, claims and numbers that are not there are left out.
    """
    scales = {}
    for folder in sorted(Path(root, "results").glob("*/")):
        parts = {
            "nll": nested(folder / "images/tables/nll.csv", "arm", "step", "bits_per_dim"),
            "planar": nested(folder / "planar/tables/planar.csv", "problem", "model", "nll"),
            "claims": claims(folder),
        }
        if parts := {name: part for name, part in parts.items() if part}:
            scales[folder.name] = parts
    return scales


def nested(path, first, second, value):
    """``{row[first]: {row[second]: row[value]}}`` of a table, numbers as numbers; of no file, nothing."""
    if not path.is_file():
        return {}
    numbers = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.get(value):
                numbers.setdefault(row[first], {})[row[second]] = float(row[value])
    return numbers


def claims(folder):
    """The verdicts of a scale's folder in the order of its experiments, and their estimates as far as there are any."""
    verdicts = {}
    for path in sorted(folder.glob("*/report/verdict.json")):
        for claim in read_json(path).get("claims", ()):
            verdicts[claim["id"]] = {
                key: claim[key] for key in ("verdict", "estimate") if claim.get(key) is not None
            }
    return verdicts


def render(root="."):
    """The file's text."""
    return json.dumps(summary(root), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write(root="."):
    """Write the file if its content would change."""
    path, text = Path(root, SUMMARY), render(root)
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)


if __name__ == "__main__":
    write()
