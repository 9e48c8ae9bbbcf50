"""What docs/consistency.md quotes: its predictions beside what was measured, a function of the root for each."""

import json
import re

from reproduction.site import policies, regime
from reproduction.site.readings import listed, reading

__all__ = ["QUOTATIONS"]

SCALES = ("consistency", "digits")  # the best one first
NOTHING = "*Not measured yet: no scale has results here.*"
CLAIMS = (
    "consistency-raises-nll",
    "negative-lowers-nll",
    "slope-is-minus-half",
    "odd-in-lambda",
    "bound-cannot-see-it",
    "iwae-lowers-nll",
    "tbc-on-backward-is-the-score",
    "backward-tbc-tightens-the-bound",
    "learned-backward-lowers-nll",
    "averaging-lowers-nll",
    "order-is-worth-something",
    "free-backward-finds-the-order",
    "tbc-on-noising-is-the-score",
    "learned-noising-tightens-the-bound",
    "learned-noising-lowers-nll",
)
# (experiment, claim) of README's first screen.
FINDING = (
    ("images", "reweighted-at-equal-steps"),
    ("consistency", "consistency-raises-nll"),
    ("consistency", "learned-noising-lowers-nll"),
)


def prediction(name):
    """The verdict of a claim and what was measured at the best scale that tests it, for the end of a line."""

    def quote(root):
        for scale in SCALES:
            for row in _claims(root, scale):
                if row["id"] == name and row["estimate"] is not None:
                    measured, notes = reading(row)
                    text = f"Scale `{scale}`: **{row['verdict']}**. {measured} {notes}"
                    return " ".join(text.split())  # a ratio has no unit
        return NOTHING

    return quote


def finding(root):
    """What consistency training does, in three sentences: each a claim, its verdict and what was measured."""
    sentences = []
    for experiment, name in FINDING:
        for scale in SCALES:
            rows = {row["id"]: row for row in _claims(root, scale, experiment)}
            if name in rows and rows[name]["estimate"] is not None:
                sentences.append(_sentence(rows[name], scale))
                break
    return " ".join(sentences) or NOTHING


def _sentence(row, scale):
    numbers = [f"{value:+.2g}".replace("-", "−") for value in (row["estimate"], *row["interval"])]
    measured = f"{numbers[0]} [{numbers[1]}, {numbers[2]}] {row['unit']}".rstrip()
    return f"{row['claim']}: **{row['verdict']}** at `{scale}` ({measured}, {row['where']})."


def figure(root):
    """The figure of the best scale that has it, with its caption; links as seen from docs."""
    for scale in SCALES:
        folder = f"results/{scale}/consistency/figures"
        if (root / folder / "slope.md").is_file():
            caption = (root / folder / "slope.md").read_text(encoding="utf-8").strip()
            return f"![signed λ at the scale {scale}](../{folder}/slope.png)\n\n{caption}"
    return NOTHING


def tables(root):
    """The table of the optima of the best scale that has it; the other one as a link."""
    for scale in SCALES:
        folder = f"results/{scale}/consistency/tables"
        if (root / folder / "optimum.md").is_file():
            text = (root / folder / "optimum.md").read_text(encoding="utf-8").strip()
            return f"{text}\n\nEvery arm by problem: [table](../{folder}/signed.md)."
    return NOTHING


def setup(root):
    """What was trained, from the captions of the tables."""
    said = []
    for scale in SCALES:
        path = root / f"results/{scale}/consistency/tables/signed.md"
        if path.is_file():
            caption = path.read_text(encoding="utf-8").partition("\n")[0]
            said.append(f"`{scale}` ({re.search(r', (T = .*?)[)]', caption)[1]})")
    return f"Measured at the scales {listed(said)}." if said else NOTHING


def hours(root):
    """What all of it took: the stages' wall times, each on one core."""
    said = []
    for scale in (*SCALES[1:], *SCALES[:1]):
        files = [
            file
            for name in ("images", "consistency")
            for file in (root / "results" / scale / name / "provenance").glob("*.json")
        ]
        if files:
            seconds = sum(json.loads(file.read_text(encoding="utf-8"))["wall_s"] for file in files)
            said.append(f"{seconds / 3600:.1f} at the scale `{scale}`")
    return f"Core-hours of the stages behind this page: {listed(said)}." if said else NOTHING


def _claims(root, scale, experiment="consistency"):
    path = root / f"results/{scale}/{experiment}/report/verdict.json"
    return json.loads(path.read_text(encoding="utf-8"))["claims"] if path.is_file() else []


# {name between the markers: function of the repository's root}
QUOTATIONS = {
    **{name: prediction(name) for name in CLAIMS},
    "finding": finding,
    "hours": hours,
    "signed-figure": figure,
    "signed-tables": tables,
    "signed-setup": setup,
    "policy-figure": lambda root: policies.figure(root, SCALES, "policy", "which policy") or NOTHING,
    "noising-figure": lambda root: policies.figure(root, SCALES, "noising", "learned noising") or NOTHING,
    "regime-first": regime.first,
    "regime-verdicts": lambda root: regime.verdicts(root) or NOTHING,
    "regime-alignment": lambda root: regime.alignments(root) or NOTHING,
    "policy-table": lambda root: policies.table(root, SCALES) or NOTHING,
}
