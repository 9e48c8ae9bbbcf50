"""The table of *learned noising*: every arm of every problem; CSV in full, Markdown rounded."""

import numpy as np
import pandas

from reproduction.consistency.noising_arms import REFERENCE
from reproduction.consistency.report.compared import change, deviation
from reproduction.drawing.tables import markdown, number, signed, spread

__all__ = ["arms", "make"]

QUANTITIES = ("nll", "elbo_nll", "log_w_variance")
COLUMNS = {
    "problem": lambda row: row["problem"],
    "arm": lambda row: row["arm"],
    "NLL": spread("nll"),
    "its SE": lambda row: number(row["nll_standard_error"]),
    "K/2": lambda row: number(row["nll_half"]),
    "ΔNLL": change("nll", REFERENCE),
    "bound": spread("elbo_nll"),
    "Δbound": change("elbo_nll", REFERENCE),
    "Var log w": lambda row: number(row["log_w_variance"], 3),
    "cosine": lambda row: number(row["cosine"], 2),
    "log trace ratio": lambda row: signed(row["log_trace"], 2) + _half(row["log_trace_deviation"]),
}


def make(metrics):
    """``{file name: text}``: noising.{csv,md}."""
    frame = arms(metrics)
    return {
        "noising.csv": frame.to_csv(index=False, lineterminator="\n"),
        "noising.md": f"{_caption(metrics)}\n\n{markdown(frame, COLUMNS)}\n",
    }


def arms(metrics):
    """Problem × arm: one row each; means and standard deviations over seeds."""
    rows = []
    for problem in metrics.problems:
        for arm in metrics.arms:
            row = {"problem": problem, "arm": arm}
            for key in QUANTITIES:
                for name, values in (
                    (key, metrics.level(problem, arm, key)),
                    (f"{key}_change", metrics.change(problem, arm, key)),
                ):
                    row[name], row[f"{name}_deviation"] = values.mean(), deviation(values)
            for key in ("nll_standard_error", "nll_half"):
                row[key] = metrics.level(problem, arm, key).mean()
            rows.append(row | gradients(metrics, problem, arm))
    return pandas.DataFrame(rows)


def gradients(metrics, problem, arm):
    """How an arm's estimator of P_B's gradient lies to the reparameterised one before the arms part.

    The cosine is of means over seeds; the log-ratio of the traces of their covariances is paired by seed, which see the same
    batches.
    """
    if arm == REFERENCE:
        return {"cosine": np.nan, "log_trace": np.nan, "log_trace_deviation": np.nan}
    own, both, whole = (
        metrics.gradient(problem, estimator, name).mean()
        for estimator, name in ((arm, "mean_square"), (arm, "with_pathwise"), ("pathwise", "mean_square"))
    )
    ratios = np.log(metrics.gradient(problem, arm, "trace") / metrics.gradient(problem, "pathwise", "trace"))
    return {
        "cosine": both / np.sqrt(own * whole) if own > 0 and whole > 0 else np.nan,
        "log_trace": ratios.mean(),
        "log_trace_deviation": deviation(ratios),
    }


def _half(deviation):
    return "" if pandas.isna(deviation) else f" ± {number(deviation, 2)}"


def _caption(metrics):
    own, seeds = metrics.settings, len(metrics.settings.seeds)
    counts = {metrics.problems[problem]["points"] for problem in metrics.problems}
    return (
        f"**Learned rates of noising** (scale `{metrics.name}`, T = {own.diffusion.timesteps}, {seeds} seed{'s' * (seeds > 1)}, "
        f"{' or '.join(map(str, sorted(counts)))} test data a seed). All arms train P_F by the bound, from one start a seed; "
        f"they differ in what trains the rates of P_B. Nats; Δ: minus `{REFERENCE}` of the same seed, mean ± standard deviation "
        "over seeds. NLL is importance-weighted, its changes less their expected bias; “K/2”: the same with half of the "
        "trajectories. Cosine: of the mean gradient in P_B's rates with the reparameterised one, at the start; log trace ratio: "
        "of the covariance of one batch's estimate, over that of the reparameterised one, mean ± standard deviation of its "
        "logarithm. Of `digits`, dequantised, in levels: a density, no probability."
    )
