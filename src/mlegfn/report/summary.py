"""results/summary.json: the numbers of every scale that `dvc metrics show` and `dvc metrics diff` compare.

DVC shows single numbers and texts of a JSON file and leaves out lists, which is what metrics and verdicts are. So
this file repeats some of what the stages wrote; `mlegfn reproduce` writes it, and a test compares.
"""

import csv
import json
from pathlib import Path

from mlegfn.artifacts import read_json, write_text

SUMMARY = "results/summary.json"


def summary(root="."):
    """``{scale: {"nll": {arm: {step: bits/dim}}, "planar": {problem: {model: nats}}, "claims": …}}``.

    ``claims``: ``{claim: {"verdict": …, "estimate": …}}``. Scales, claims and numbers that are not there are left out.
    """
    found = {}
    for folder in sorted(Path(root, "results").iterdir()) if Path(root, "results").is_dir() else ():
        parts = {
            "nll": nested(folder / "tables/nll.csv", "arm", "step", "bits_per_dim"),
            "planar": nested(folder / "tables/planar.csv", "problem", "model", "nll"),
            "claims": claims(folder / "report"),
        }
        if parts := {name: part for name, part in parts.items() if part}:
            found[folder.name] = parts
    return found


def nested(path, first, second, value):
    """``{row[first]: {row[second]: row[value]}}`` of a table, numbers as numbers; of no file, nothing."""
    if not path.is_file():
        return {}
    found = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.get(value):
                found.setdefault(row[first], {})[row[second]] = float(row[value])
    return found


def claims(folder):
    """The verdicts in a scale's report folder, and their estimates as far as there are any."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        for claim in read_json(path).get("claims", ()):
            found[claim["id"]] = {
                key: claim[key] for key in ("verdict", "estimate") if claim.get(key) is not None
            }
    return found


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
