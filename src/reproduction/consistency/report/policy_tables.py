"""The table of *which policy*: every arm of every problem; CSV in full, Markdown rounded."""

import pandas

from reproduction.consistency.policy_arms import ARMS, REFERENCE
from reproduction.consistency.report.compared import change, deviation
from reproduction.drawing.tables import markdown, number, signed, spread

__all__ = ["arms", "make"]

LOSSES = {"score": "score", "tbc": "TBC", None: "–"}
COLUMNS = {
    "problem": lambda row: row["problem"],
    "arm": lambda row: row["arm"],
    "P_B by": lambda row: row["loss"],
    "NLL": spread("nll"),
    "its SE": lambda row: number(row["nll_standard_error"]),
    "K/2": lambda row: number(row["nll_half"]),
    "− entropy": lambda row: number(row["nll"] - row["entropy"]),
    "ΔNLL": change("nll", REFERENCE),
    "bound": lambda row: number(row["elbo_nll"]),
    "Δbound": change("elbo_nll", REFERENCE),
    "Var log w": lambda row: number(row["log_w_variance"], 3),
    "MMD² · 10⁴": lambda row: number(row["mmd"] * 1e4, 2),
    "floor: 95 %": lambda row: number(row["mmd_floor"] * 1e4, 2),
    "rank correlation": lambda row: signed(row["rank_correlation"], 2),
    "P_F states, 10⁶": lambda row: number(row["forward"] / 1e6, 2),
    "P_B states, 10⁶": lambda row: number(row["backward"] / 1e6, 2),
}


def make(metrics):
    """``{file name: text}``: policy.{csv,md}."""
    frame = arms(metrics)
    return {
        "policy.csv": frame.to_csv(index=False, lineterminator="\n"),
        "policy.md": f"{_caption(metrics)}\n\n{markdown(frame, COLUMNS)}\n",
    }


def arms(metrics):
    """Problem × arm: one row each; means and standard deviations over seeds."""
    rows = []
    for problem, value in metrics.problems.items():
        for arm in metrics.arms:
            row = {
                "problem": problem,
                "arm": arm,
                "loss": LOSSES[ARMS[arm].loss],
                "entropy": value["entropy"],
            }
            for key in ("nll", "elbo_nll", "log_w_variance", "mmd", "rank_correlation"):
                values = metrics.level(problem, arm, key)
                row[key], row[f"{key}_deviation"] = values.mean(), deviation(values)
            for key in ("nll_standard_error", "nll_half"):
                row[key] = metrics.level(problem, arm, key).mean()
            for key in ("nll", "elbo_nll", "log_w_variance"):
                changes = metrics.change(problem, arm, key)
                row[f"{key}_change"], row[f"{key}_change_deviation"] = changes.mean(), deviation(changes)
            row["mmd_floor"] = value["mmd_floor"]["quantile_95"]
            row |= metrics.runs(problem, arm)[0]["evaluations"]
            rows.append(row)
    return pandas.DataFrame(rows)


def _caption(metrics):
    own, seeds = metrics.settings, len(metrics.settings.seeds)
    return (
        f"**Which policy consistency trains** (scale `{metrics.name}`, {seeds} seed{'s' * (seeds > 1)}, {own.test_points} test points a "
        f"seed, K = {own.importance_samples} trajectories a point, {own.steps} steps). Problems as 32 bits. P_F: the bound of a single entry, "
        f"of `uniform` averaged over entries. Δ: minus `{REFERENCE}` of the same seed, mean ± standard deviation over seeds, nats. "
        "NLL is importance-weighted, its changes less their expected bias; “K/2”: the same with half of the trajectories; of the fixed order it is exact. Rank "
        "correlation: Spearman's, of the mean step at which an entry is emptied with the order of significance. MMD²: unbiased, "
        "kernel exp(−0.1 · Hamming distance), and the 95 % quantile of the same between data and data. States: those that "
        "each policy's network saw in training."
    )
