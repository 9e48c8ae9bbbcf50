"""Every claim decided from metrics: *reproduced*, *not reproduced* or *not tested at this scale*.

An experiment's evidence divides a claim into parts (a checkpoint, a 2-D problem), each with an interval. The claim is
reproduced only if every part shows it (:func:`reproduction.verdicts.statistics.every`); one part that does not show it
decides against the claim. What is quoted is the *worst* part: the one whose interval reaches highest.
"""

from reproduction.verdicts import statistics

__all__ = ["decide", "markdown"]

VERDICTS = {True: "reproduced", False: "not reproduced", None: "not tested at this scale"}


def decide(metrics, claims, tests):
    """The verdicts of claims as verdict.json holds them.

    :param metrics: what the experiment measured; ``metrics.name`` is the scale, the rest is for ``tests``
    :param claims: of :func:`reproduction.verdicts.claims.load`
    :param tests: {kind: function(metrics, test) -> :class:`reproduction.verdicts.evidence.Evidence`}
    """
    return {"scale": metrics.name, "claims": [_verdict(metrics, claim, tests) for claim in claims]}


def _verdict(metrics, claim, tests):
    evidence = tests[claim.test.kind](metrics, claim.test)
    row = {
        "id": claim.id,
        "claim": claim.claim,
        "paper": claim.paper,
        "source": claim.source,
        "statement": evidence.statement,
        "unit": evidence.unit,
        "verdict": VERDICTS[None],
        "estimate": None,
        "interval": None,
        "seeds": None,
        "detail": "",
        "parts": [],
    }
    if claim.scales is not None and metrics.name not in claim.scales:
        return {**row, "detail": f"only tested at the scales {', '.join(claim.scales)}"}
    parts = evidence.parts
    held = [part.holds for part in parts] + [None] * len(evidence.untested)
    row["verdict"] = VERDICTS[statistics.every(held)]
    missing = f"not at this scale: {', '.join(evidence.untested)}" if evidence.untested else ""
    if not parts:
        return {**row, "detail": missing}
    worst = max(parts, key=lambda part: (not part.holds, part.interval.high))
    details = [
        _count(parts, evidence.noun) if evidence.noun else parts[0].interval.outcome,
        *([missing] if missing else []),
        evidence.notes,
    ]
    return {
        **row,
        "estimate": worst.interval.estimate,
        "interval": [worst.interval.low, worst.interval.high],
        "seeds": worst.interval.seeds,
        "where": worst.where,
        "detail": "; ".join(detail for detail in details if detail),
        "parts": [
            {
                "where": part.where,
                "estimate": part.interval.estimate,
                "interval": [part.interval.low, part.interval.high],
                "outcome": part.interval.outcome,
                "holds": part.holds,
            }
            for part in parts
        ],
    }


def _count(parts, noun):
    """``lower at 3, indistinguishable at 2, higher at 0 of 5 checkpoints``."""
    outcomes = [part.interval.outcome for part in parts]
    counts = ", ".join(
        f"{word} at {outcomes.count(word)}" for word in ("lower", "indistinguishable", "higher")
    )
    return f"{counts} of {len(parts)} {noun}{'s' * (len(parts) != 1)}"


def markdown(report):
    """The contents of verdict.json as a GitHub table with a note on how each claim was decided."""
    from tabulate import tabulate

    rows = [
        [
            f"{row['claim']} ({row['source']})",
            row["paper"],
            _ours(row),
            row["unit"] if row["estimate"] is not None else "",
            _seeds(row),
            f"**{row['verdict']}**",
        ]
        for row in report["claims"]
    ]
    table = tabulate(
        rows,
        headers=["claim", "the paper says", "ours: estimate [95 %]", "unit", "seeds", "verdict"],
        tablefmt="pipe",
        colalign=["left", "left", "left", "left", "right", "left"],
        disable_numparse=True,
    )
    notes = "\n".join(
        f"- **{row['claim']}**: {row['statement']}. {_sentence(row)}" for row in report["claims"]
    )
    return (
        f"Verdicts at the scale `{report['scale']}`. Where a claim has several parts (checkpoints, problems), "
        "all must show it, and the one quoted is the worst.\n\n"
        f"{table}\n\n<details><summary>How each was decided</summary>\n\n{notes}\n\n</details>\n"
    )


def _ours(row):
    if row["estimate"] is None:
        return ""
    factor, power = (1000, " · 10⁻³") if row["unit"] == "MMD²" else (1, "")
    numbers = [f"{value * factor:+.4f}".replace("-", "−") for value in (row["estimate"], *row["interval"])]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]{power}, {row['where']}"


def _seeds(row):
    """The number of seeds; of one seed, what its interval covers instead."""
    if row["seeds"] is None:
        return ""
    return str(row["seeds"]) if row["seeds"] > 1 else "1 (interval not over seeds)"


def _sentence(row):
    text = row["detail"]
    return f"{text[:1].upper()}{text[1:]}."
