"""Arms that are compared with a reference of the same seed: what the reports of P_B and of learned noising share."""

from functools import partial

import pandas

from reproduction.drawing.tables import number, signed
from reproduction.verdicts.evidence import Evidence, over_seeds, parts_below

__all__ = ["absent", "arms_below", "change", "deviation", "listed", "one_seed"]


def arms_below(metrics, test, reference, part):
    """The ``Evidence`` that ``test.metric`` of each of ``test.arms`` is below that of ``reference`` on each problem.

    Parts: problem × arm, paired by seed.

    :param metrics: :class:`reproduction.consistency.report.policy_metrics.PolicyMetrics`, or that of another part
    :param part: what is not tested at a scale without the part
    """
    untested = absent(metrics, [reference, *test.arms], part)
    intervals = {
        f"{problem}, {arm}": partial(
            over_seeds,
            metrics.change(problem, arm, test.metric),
            float(metrics.change(problem, arm, test.metric, "standard_error")[0]),
        )
        for problem in metrics.problems
        for arm in test.arms
        if arm not in untested
    }
    return Evidence(
        parts_below(intervals),
        untested,
        "nats",
        f"{test.metric} of {', '.join(test.arms)} minus that of {reference} on {listed(metrics)}: 95 % interval below 0",
        "part",
        "one seed: the interval is over test points" if one_seed(metrics) else "interval over seeds",
    )


def absent(metrics, arms, part):
    """Those of ``arms`` that this scale does not have; ``part`` alone where it has no runs of the part."""
    if not metrics.problems:
        return [part]
    return [arm for arm in dict.fromkeys(arms) if arm not in metrics.arms]


def one_seed(metrics):
    """Whether there is one seed, over which there is no interval."""
    return metrics.settings is not None and len(metrics.settings.seeds) == 1


def listed(metrics):
    """The problems in a sentence."""
    return ", ".join(metrics.problems) or "no problem"


def deviation(values):
    """The standard deviation over seeds, None of one."""
    return values.std(ddof=1) if len(values) > 1 else None


def change(key, reference):
    """A column: mean ± standard deviation of the change of ``key``, nothing for the reference."""

    def show(row):
        if row["arm"] == reference:
            return ""
        spread, text = row[f"{key}_change_deviation"], signed(row[f"{key}_change"])
        return text if pandas.isna(spread) else f"{text} ± {number(spread)}"

    return show
