"""Every claim decided from metrics: *reproduced*, *not reproduced* or *not tested at this scale*.

Each kind of test turns a claim into parts (a checkpoint, a 2-D problem), each with an interval. The claim is
reproduced only if every part shows it (:func:`mlegfn.report.statistics.every`); one part that does not show it
decides against the claim. What is quoted is the *worst* part, the one that decides: its interval reaches highest.
"""

from typing import NamedTuple

import numpy as np

from mlegfn.report import statistics
from mlegfn.report.comparison import budgets, differences
from mlegfn.report.metrics import planar_values
from mlegfn.report.statistics import Interval

VERDICTS = {True: "reproduced", False: "not reproduced", None: "not tested at this scale"}


class Part(NamedTuple):
    """One thing that a claim says: where, the interval of a quantity that must be negative, and whether it is."""

    where: str
    interval: Interval
    holds: bool


class Evidence(NamedTuple):
    """What a test found: the parts that could be tested, those that could not, and what was meant."""

    parts: list
    untested: list
    unit: str
    statement: str
    noun: str
    notes: str


def decide(metrics, claims):
    """The verdicts of ``claims`` (of :func:`mlegfn.report.claims.load`) as verdict.json holds them."""
    return {"scale": metrics.name, "claims": [_verdict(metrics, claim) for claim in claims]}


def _verdict(metrics, claim):
    evidence = TESTS[claim.test.kind](metrics, claim.test)
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
        return {**row, "detail": missing or f"no {evidence.noun}s at this scale"}
    worst = max(parts, key=lambda part: part.interval.high)
    details = [_count(parts, evidence.noun), *([missing] if missing else []), evidence.notes]
    return {
        **row,
        "estimate": worst.interval.estimate,
        "interval": [worst.interval.low, worst.interval.high],
        "seeds": worst.interval.seeds,
        "where": worst.where,
        "detail": "; ".join(each for each in details if each),
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
    found = [part.interval.outcome for part in parts]
    counts = ", ".join(f"{each} at {found.count(each)}" for each in ("lower", "indistinguishable", "higher"))
    return f"{counts} of {len(parts)} {noun}{'s' * (len(parts) != 1)}"


def finetune_below(metrics, test):
    """Parts: checkpoints (× measured steps with ``at: every``), paired by seed and image."""
    absent = [arm for arm in (test.arm, test.reference) if arm in ("simple", "vlb", "tbc")]
    absent = [f"arm {arm}" for arm in absent if arm not in metrics.arms]
    parts, untested, arrays = [], list(absent), {}
    for checkpoint in () if absent else metrics.checkpoints:
        places = budgets(metrics, checkpoint, test.arm, test.reference, test.equal)
        if not places:
            untested.append(f"checkpoint {checkpoint} ({test.reference} ends there)")
            continue
        for x in places[-1:] if test.at == "last" else places:
            where = f"checkpoint {checkpoint} + {x:,.0f} {test.equal}"
            arrays[where] = differences(metrics, checkpoint, test.arm, test.reference, x, test.equal)
    if test.checkpoints == "mean" and arrays and not untested:
        arrays = {f"mean of {len(arrays)} checkpoints": np.mean(list(arrays.values()), axis=0)}
    for where, values in arrays.items():
        interval = statistics.paired(values)
        parts.append(Part(where, interval, interval.high < 0))
    one = len(metrics.seeds) == 1
    covers = "one seed: the interval covers images only" if one else "interval over seeds and images"
    noun = {"all": "checkpoint", "mean": "mean"}[test.checkpoints] if test.at == "last" else "point"
    return Evidence(
        parts,
        untested,
        "bits/dim",
        f"test NLL of `{test.arm}` minus `{test.reference}`"
        + {"baseline": " (linear between saved steps)", "baseline_next": " (its next saved step)"}.get(
            test.reference, ""
        )
        + f" at equal {test.equal}, {'after the last' if test.at == 'last' else 'at every measured'} fine-tuning "
        + f"step that both reach, {'at every checkpoint' if test.checkpoints == 'all' else 'mean over checkpoints'}: "
        + "95 % interval below 0",
        noun,
        f"{covers}; one pre-training run",
    )


def planar_below(metrics, test):
    """Parts: problems, paired by seed; with one seed, a normal interval from the standard errors."""
    parts, untested = [], [problem for problem in test.problems if problem not in metrics.planar]
    one = len(metrics.scale.planar.seeds) == 1
    for problem in (each for each in test.problems if each in metrics.planar):
        own, other = (
            planar_values(metrics, problem, model, test.metric) for model in (test.model, test.reference)
        )
        values = own - other
        if not one:
            interval = Interval(*statistics.student(values), len(values))
        elif test.metric == "mmd":
            untested.append(f"{problem} (MMD needs two seeds)")
            continue
        else:
            errors = [
                planar_values(metrics, problem, model, "nll_standard_error")[0]
                for model in (test.model, test.reference)
            ]
            interval = _normal(values[0], float(np.hypot(*errors)))
        parts.append(Part(problem, interval, interval.high < 0))
    return Evidence(
        parts,
        untested,
        "MMD" if test.metric == "mmd" else "nats",
        f"{test.metric} of `{test.model}` minus `{test.reference}` on each of {len(test.problems)} problems: "
        "95 % interval below 0",
        "problem",
        "one seed: the interval covers test points only" if one else "interval over seeds",
    )


def planar_within_floor(metrics, test):
    """Parts: problems; the mean over seeds of MMD minus the 95 % quantile of data against data.

    Here equality is the claim, which no test can show: what is asked is that the mean over seeds stays inside
    the range in which 95 % of data-against-data values fall. The interval is shown, and does not decide.
    """
    parts, untested = [], [problem for problem in test.problems if problem not in metrics.planar]
    for problem in (each for each in test.problems if each in metrics.planar):
        excess = planar_values(metrics, problem, test.model, "mmd")
        excess = excess - metrics.planar[problem]["mmd_floor"]["quantile_95"]
        mean, low, high = statistics.student(excess)
        if len(excess) == 1:
            low = high = mean
        parts.append(Part(problem, Interval(mean, low, high, len(excess)), mean <= 0))
    inside = sum(part.holds for part in parts)
    notes = f"mean over seeds inside the floor's 95 % quantile at {inside} of {len(parts)} problems"
    if len(metrics.scale.planar.seeds) == 1:
        notes += "; one seed: no interval"
    return Evidence(
        parts,
        untested,
        "MMD",
        f"MMD of `{test.model}` to data, mean over seeds, minus the 95 % quantile of data against data, on each of "
        f"{len(test.problems)} problems: not above 0",
        "problem",
        notes,
    )


def _normal(estimate, standard_error):
    from scipy.stats import norm

    half = float(norm.ppf((1 + statistics.LEVEL) / 2)) * standard_error
    return Interval(float(estimate), float(estimate) - half, float(estimate) + half, 1)


TESTS = {
    "finetune_below": finetune_below,
    "planar_below": planar_below,
    "planar_within_floor": planar_within_floor,
}


def markdown(report):
    """verdict.json's contents as a GitHub table, for the README."""
    from tabulate import tabulate

    rows = [
        [
            f"{each['claim']} ({each['source']})",
            each["paper"],
            _ours(each),
            each["unit"] if each["estimate"] is not None else "",
            _seeds(each),
            f"**{each['verdict']}**",
        ]
        for each in report["claims"]
    ]
    table = tabulate(
        rows,
        headers=["claim", "the paper says", "ours: estimate [95 %]", "unit", "seeds", "verdict"],
        tablefmt="pipe",
        colalign=["left", "left", "left", "left", "right", "left"],
        disable_numparse=True,
    )
    notes = "\n".join(
        f"- {each['claim']}: {each['statement']}. {_sentence(each)}" for each in report["claims"]
    )
    return (
        f"Verdicts at the scale `{report['scale']}`. Quoted is the worst part of a claim, the one that decides.\n\n"
        f"{table}\n\n{notes}\n"
    )


def _ours(row):
    if row["estimate"] is None:
        return ""
    low, high = row["interval"]
    signed = [f"{value:+.4f}".replace("-", "−") for value in (row["estimate"], low, high)]
    return f"{signed[0]} [{signed[1]}, {signed[2]}], {row['where']}"


def _seeds(row):
    return "" if row["seeds"] is None else str(row["seeds"])


def _sentence(row):
    text = row["detail"]
    return f"{text[:1].upper()}{text[1:]}."
