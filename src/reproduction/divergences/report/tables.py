"""The tables: objectives on every task, beside the metric's floor and what the paper printed; the gradients' covariance."""

import numpy as np
import pandas

from reproduction.divergences.report.metrics import OBJECTIVES, VARIATES

FOUR = ("reverse_kl", "forward_kl", "renyi", "tsallis")
# Table 1 of the paper, L1 or JSD as it measures them, as far as a secondary note on the paper lists it.
PUBLISHED = {
    "sets": {"trajectory_balance": "0.07 ± 0.00", **dict.fromkeys(FOUR, "0.03 ± 0.00")},
    "sequences": {"trajectory_balance": "0.28 ± 0.06", "reverse_kl": "0.16 ± 0.06"},
    "mixture": {"trajectory_balance": "0.31 ± 0.08", "forward_kl": "0.09 ± 0.10"},
    "phylogeny": dict.fromkeys(("trajectory_balance", *FOUR), "0.21–0.22"),
}


def table(metrics):
    """Task × objective: one row each; full precision."""
    rows = []
    for task, value in metrics.tasks.items():
        best, near = metrics.best(task)
        for objective in metrics.task_settings[task].objectives:
            runs = metrics.runs(task, objective)
            exact = metrics.values(task, objective)
            sampled = np.array([run["final"]["sampled"] for run in runs], dtype=float)  # None becomes NaN
            log_z = np.array(
                [run["log_z"] for run in runs], dtype=float
            )  # None, of none learned, becomes NaN
            rows.append(
                {
                    "task": value["title"],
                    "metric": value["metric"],
                    "objective": OBJECTIVES[objective].title,
                    "seeds": len(runs),
                    "trajectories": value["batch"] * value["steps"],
                    **_moments("exact", exact),
                    "exact_error": max(run["final"]["exact_error"] for run in runs),
                    **_moments("sampled", sampled),
                    "floor": value["floor"]["value"],
                    "floor_standard_error": value["floor"]["standard_error"],
                    "floor_samples": value["floor"]["samples"],
                    "area": metrics.values(task, objective, "area").mean(),
                    "paper": PUBLISHED.get(task, {}).get(objective, ""),
                    **_moments("log_z_error", log_z - value["log_z"]),
                    "best": near == [objective] and objective == best,
                }
            )
    return pandas.DataFrame(rows)


def _moments(name, values):
    return {
        name: values.mean(),
        f"{name}_deviation": values.std(ddof=1) if len(values) > 1 else np.nan,
    }


def significant(value, digits=3):
    """``0.0312``, ``1.20e−05``: digits that matter, blank for what there is not."""
    if value is None or pandas.isna(value):
        return ""
    return f"{value:#.{digits}g}".removesuffix(".").replace("-", "−")


def _spread(key):
    def show(row):
        text, deviation = significant(row[key]), significant(row[f"{key}_deviation"], 2)
        return f"{text} ± {deviation}" if deviation else text

    return show


def _exact(row):
    text = _spread("exact")(row)
    return f"**{text}**" if row["best"] else text


def _floor(row):
    error = significant(row["floor_standard_error"], 2)
    return f"{significant(row['floor'])}{f' (SE {error})' if error else ''}, n = {row['floor_samples']:,}"


COLUMNS = {
    "task": lambda row: row["task"],
    "metric": lambda row: row["metric"],
    "objective": lambda row: row["objective"],
    "seeds": lambda row: str(row["seeds"]),
    "exact": _exact,
    "its error": lambda row: significant(row["exact_error"], 2) if row["exact_error"] else "",
    "over training": lambda row: significant(row["area"]),
    "sampled": _spread("sampled"),
    "floor of “sampled”": _floor,
    "the paper": lambda row: row["paper"],
    "log Z − true": _spread("log_z_error"),
}


def markdown(frame):
    rows = [{title: show(row) for title, show in COLUMNS.items()} for row in frame.to_dict("records")]
    return text_table(pandas.DataFrame(rows), left=("task", "metric", "objective"))


def text_table(frame, left):
    """A frame of texts as a GitHub table; the columns ``left`` to the left, the others to the right."""
    align = ["left" if title in left else "right" for title in frame]
    return frame.to_markdown(index=False, disable_numparse=True, colalign=align)


def caption(metrics):
    about = "; ".join(
        f"{value['title']}: {value['about'].rstrip('.')}, {value['steps']:,} steps of {value['batch']} trajectories"
        for value in metrics.tasks.values()
    )
    return (
        f"**Objectives on every task** (scale `{metrics.name}`), L1 or Jensen–Shannon divergence (nats) to the target "
        "after training, lower is better; mean ± standard deviation over seeds. “Exact”: from the policy's own "
        "distribution, without samples (“its error”: the standard error, where it is an estimate); bold: the lowest, if "
        "the 95 % interval of its difference from every other one, paired by seed, is below 0. “Over training”: the mean "
        "of the exact metric over the steps. “Sampled”: the same metric from n Monte-Carlo samples, as the paper takes "
        "it; blank where n samples say nothing. “Floor”: what the target itself shows from n samples. “The paper”: "
        "Table 1 of arXiv 2410.09355 as far as a secondary note lists it; settings that it does not give are ours. "
        f"{about}."
    )


GRADIENTS = (
    *("task", "objective", "alpha", "control_variate", "batch"),
    *("trace", "trace_standard_error", "trace_over_none", "mean_square"),
)


def gradients(metrics):
    """Task × objective × control variate × batch size: one row each, full precision."""
    rows = []
    for value in metrics.gradients.values():
        none = {
            (row["objective"], row["batch"]): row["trace"]
            for row in value["rows"]
            if row["control_variate"] == "none"
        }
        for row in value["rows"]:
            ratio = row["trace"] / none.get((row["objective"], row["batch"]), np.nan)
            rows.append({**row, "task": value["title"], "trace_over_none": ratio})
    return pandas.DataFrame(rows, columns=GRADIENTS)


def gradients_markdown(metrics):
    """A row a control variate, a column a batch size: the trace over that without a control variate."""
    rows = []
    for (task, objective, variate), part in gradients(metrics).groupby(
        ["task", "objective", "control_variate"], sort=False
    ):
        last = part.loc[part["batch"].idxmax()]
        traces = {
            f"N = {row.batch}": significant(row.trace_over_none)
            for row in part.sort_values("batch").itertuples()
        }
        about = {"task": task, "objective": OBJECTIVES[objective].title, "control variate": VARIATES[variate]}
        about |= traces | {"trace": significant(last["trace"]), "‖mean‖²": significant(last["mean_square"])}
        rows.append(about)
    return (
        f"**Covariance of the gradients** (scale `{metrics.name}`): the trace over that without a control variate, by "
        "batch size N; then, at the largest N, the trace itself and the squared length of the mean gradient, which an "
        "unbiased control variate leaves as it is, up to the noise of the estimate (it may come out negative). What "
        "shrinks the mean with the covariance gains nothing.\n\n"
        + text_table(pandas.DataFrame(rows).fillna(""), left=("task", "objective", "control variate"))
    )
