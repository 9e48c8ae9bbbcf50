"""Every claim decided from metrics: *reproduced*, *refuted*, *undecided* or *not tested at this scale*.

An experiment's evidence divides a claim into parts (a checkpoint, a 2-D problem), each with an interval and the outcome
that it decides. The claim is reproduced only if every part is, and one part that is refuted refutes it
(:func:`reproduction.verdicts.evidence.every`). What is quoted is the *worst* part: a refuted one, else an undecided one,
and among equal ones that whose interval reaches highest.
"""

from reproduction.verdicts.evidence import REFUTED, REPRODUCED, UNDECIDED, every, worst_first

__all__ = ["UNTESTED", "decide", "markdown"]

UNTESTED = "not tested at this scale"
SAID = {
    REPRODUCED: "the interval shows it",
    REFUTED: "the interval shows the opposite",
    UNDECIDED: "the interval shows neither it nor the opposite",
}


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
        "verdict": UNTESTED,
        "estimate": None,
        "interval": None,
        "seeds": None,
        "detail": "",
        "parts": [],
    }
    if claim.scales is not None and metrics.name not in claim.scales:
        return {**row, "detail": f"only tested at the scales {', '.join(claim.scales)}"}
    parts = evidence.parts
    outcomes = [part.outcome for part in parts] + [None] * len(evidence.untested)
    row["verdict"] = every(outcomes) or UNTESTED
    missing = f"not at this scale: {', '.join(evidence.untested)}" if evidence.untested else ""
    if not parts:
        return {**row, "detail": missing}
    worst = min(parts, key=worst_first)
    details = [
        _count(parts, evidence.noun) if evidence.noun else SAID[parts[0].outcome],
        _unseen(worst, evidence.unit) if row["verdict"] == UNDECIDED else "",
        missing,
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
                "outcome": part.outcome,
            }
            for part in parts
        ],
    }


def _count(parts, noun):
    """``reproduced at 3, undecided at 2, refuted at 0 of 5 checkpoints``."""
    outcomes = [part.outcome for part in parts]
    counts = ", ".join(f"{word} at {outcomes.count(word)}" for word in (REPRODUCED, UNDECIDED, REFUTED))
    return f"{counts} of {len(parts)} {noun}{'s' * (len(parts) != 1)}"


def _unseen(part, unit):
    """The smallest effect that the design could have shown: half the width of the interval."""
    half = f"{(part.interval.high - part.interval.low) / 2:.2g}".replace("-", "−")
    return f"an effect below {half} {unit}".rstrip() + " could not have been seen"


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
        f"Verdicts at the scale `{report['scale']}`. A claim is *{REPRODUCED}* if its interval lies on the claim's side "
        f"of the limit, *{REFUTED}* if it lies wholly on the other side, and *{UNDECIDED}* if the limit is inside. Where "
        "a claim has several parts (checkpoints, problems), all must show it, one that is refuted refutes it, and the "
        "one quoted is the worst.\n\n"
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
