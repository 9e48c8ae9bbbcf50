"""Verdicts in sentences. Every number and every word that judges comes from a verdict file."""

from reproduction.verdicts.evidence import REFUTED, REPRODUCED, UNDECIDED

__all__ = [
    "KEY",
    "NOTES",
    "PAPERS",
    "TESTED",
    "interval",
    "listed",
    "number",
    "origin",
    "outcome",
    "reading",
    "same_as",
    "sentence",
    "unit_of",
]

TESTED = (REPRODUCED, REFUTED, UNDECIDED)
NOTES = "lecture notes"
# {experiment: where its claims come from}
PAPERS = {
    "images": "2209.02606",
    "planar": "2209.02606",
    "consistency": "docs/consistency.md",
    "bits": "2202.01361",
    "divergences": "2410.09355",
    "gallery": NOTES,
}


# Figure 1's claim, its control without the term, that with the bound in the term's place, the comparison at equal cost.
KEY = (
    "figure1-from-every-checkpoint",
    "simple-at-equal-steps",
    "reweighted-at-equal-steps",
    "baseline-at-equal-evaluations",
)


def number(value, unit=None):
    """``−0.0474``; MMD² in thousandths, as in the tables."""
    scaled = value * (1000 if unit == "MMD²" else 1)
    return f"{scaled:+.4f}".replace("-", "−")


def unit_of(row):
    """The unit as it stands behind the number."""
    return "10⁻³ MMD²" if row["unit"] == "MMD²" else row["unit"]


def interval(row):
    """``[−0.0554, −0.0394]``, or empty."""
    if row["interval"] is None:
        return ""
    low, high = (number(bound, row["unit"]) for bound in row["interval"])
    return f"[{low}, {high}]"


def seeds(row):
    """How many seeds the interval is over."""
    if not row["seeds"]:
        return ""
    return f"{row['seeds']} seeds" if row["seeds"] > 1 else "1 seed, interval not over seeds"


def reading(row):
    """(one sentence of what was measured for a verdict, without the verdict itself; what has to be known about it)."""
    if row["estimate"] is None:
        return sentence(row["detail"]), ""
    worst = "the worst is " if len(row["parts"]) > 1 else ""
    counted, _, notes = row["detail"].partition("; ")
    text = (
        f"{counted}; {worst}{number(row['estimate'], row['unit'])} {interval(row)} {unit_of(row)} "
        f"({row['where']}), {seeds(row)}"
    )
    return sentence(text), sentence(notes)


def same_as(claims):
    """For each claim, the one that it means by “the same”, or None where it stands on its own."""
    before, last = [], None
    for claim in claims:
        again = claim.startswith("The same")
        before.append(last if again else None)
        last = last if again else claim
    return before


def origin(row, paper):
    """Where a claim stands, and its words there; of one of ours, what it is for."""
    if row["paper"].startswith("("):
        return sentence(row["paper"].strip("()")).rstrip(".")
    source = row["source"] if row["source"].startswith(paper) else f"{paper}, {row['source']}"
    return f"{source}: {row['paper']}"


def sentence(text):
    """Starts with a capital, ends with a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def listed(names):
    """``a``, ``a and b``, ``a, b and c``."""
    names = list(names)
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def outcome(rows):
    """The page's first sentences: whether Figure 1 holds, whether its control does, what it costs, and the count.

    ``rows``: verdicts as their files hold them, with ``scale``.
    """
    tested = [row for row in rows if row["verdict"] in TESTED]
    if not tested:
        return ["Nothing has been measured in this checkout yet; `make reproduce` measures it."]
    sentences = []
    beats, control, reweighted, cost = (_where(tested, name) for name in KEY)
    if beats:
        where = listed(f"{word} at {_scales(scales)}" for word, scales in beats[0].items() if scales)
        text = (
            f"Figure 1 says that fine-tuning with MLE-GFN beats the baseline from every checkpoint: {where}"
        )
        if control:
            text += (
                "; beside the same fine-tuning without the consistency term, its NLL is lower "
                f"from {control[1]} of {_count(control[2], 'checkpoint')}"
            )
        if control and reweighted:
            text += (
                ", and beside a gradient of the bound of equal length in the term's place "
                f"from {reweighted[1]} of {_count(reweighted[2], 'checkpoint')}"
            )
        if any(found and not found[1] for found in (control, reweighted)):
            text += ", so that the term is not shown to be why"
        sentences.append(f"{text}.")
    if cost:
        sentences.append(
            "At equal network evaluations instead of equal steps, its NLL is lower than the baseline's from "
            f"{cost[1]} of {_count(cost[2], 'checkpoint')}."
        )
    counts = listed(f"{sum(row['verdict'] == word for row in tested)} “{word}”" for word in TESTED)
    scales = _count(len({row["scale"] for row in tested}), "scale")
    sentences.append(
        f"{_count(len(tested), 'verdict')} at {scales}: {counts}; {len(rows) - len(tested)} more could not be tested "
        "at their scale."
    )
    return sentences


def _where(tested, name):
    """({outcome: scales with that verdict}, parts that show the claim, all parts) of one claim.

    None where it was tested nowhere.
    """
    rows = [row for row in tested if row["id"] == name]
    if not rows:
        return None
    scales = {word: [row["scale"] for row in rows if row["verdict"] == word] for word in TESTED}
    parts = [part for row in rows for part in row["parts"]]
    return scales, sum(part["outcome"] == REPRODUCED for part in parts), len(parts)


def _scales(names):
    return listed(f"`{name}`" for name in names)


def _count(n, noun):
    return f"{n} {noun}{'s' * (n != 1)}"
