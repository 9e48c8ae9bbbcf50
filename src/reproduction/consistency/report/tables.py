"""The tables of signed λ: every arm, and how near the optimum of the bound was; CSV in full, Markdown rounded."""

import numpy as np
import pandas

from reproduction.drawing.tables import markdown, number, signed

__all__ = ["arms", "make", "optima"]

CHANGES = ("nll", "log_w_variance", "elbo_nll", "log_w_third_cumulant")
ARM_COLUMNS = {
    "problem": lambda row: row["problem"],
    "arm": lambda row: row["arm"],
    "λ, or equal to": lambda row: signed(row["lambda"], 3),
    "NLL": lambda row: number(row["nll"]),
    "Var log w": lambda row: number(row["log_w_variance"]),
    "ΔNLL": lambda row: _spread(row, "nll"),
    "ΔVar": lambda row: _spread(row, "log_w_variance"),
    "Δbound": lambda row: _spread(row, "elbo_nll"),
    "Δκ₃": lambda row: _spread(row, "log_w_third_cumulant"),
    "ΔNLL/ΔVar": lambda row: signed(row["slope"], 3),
}
OPTIMUM_COLUMNS = {
    "problem": lambda row: row["problem"],
    "bound, first": lambda row: number(row["first"]),
    "before the last rate": lambda row: number(row["before"]),
    "last": lambda row: number(row["last"]),
    "its SE": lambda row: number(row["last_standard_error"]),
    "‖∇N‖², pretrained": lambda row: _with_error(row, "bound_squared_pretrained"),
    "at the optimum": lambda row: _with_error(row, "bound_squared_optimum"),
    "∇N·∇V/‖∇V‖², pretrained": lambda row: signed(row["pull_pretrained"], 3),
    "at the optimum ": lambda row: signed(row["pull_optimum"], 3),
    "its SE ": lambda row: number(row["pull_optimum_standard_error"], 3),
}


def make(metrics):
    """``{file name: text}``: signed.{csv,md}, optimum.{csv,md}."""
    result = {}
    for name, frame, columns, caption in (
        ("signed", arms(metrics), ARM_COLUMNS, _arms_caption(metrics)),
        ("optimum", optima(metrics), OPTIMUM_COLUMNS, _optimum_caption(metrics)),
    ):
        result[f"{name}.csv"] = frame.to_csv(index=False, lineterminator="\n")
        result[f"{name}.md"] = f"{caption}\n\n{markdown(frame, columns)}\n"
    return result


def arms(metrics):
    """Problem × arm: one row each; means over seeds, and standard deviations of the changes against λ = 0."""
    rows = []
    for problem in metrics.problems:
        for name, arm in metrics.arms.items():
            row = {"problem": problem, "arm": name, "lambda": arm.sign, "seeds": len(metrics.settings.seeds)}
            for key in ("nll", "nll_standard_error", "elbo_nll", "log_w_variance"):
                row[key] = metrics.level(problem, name, key).mean()
            for key in CHANGES:
                change = metrics.change(problem, name, key)
                row[f"{key}_change"] = change.mean()
                row[f"{key}_change_deviation"] = change.std(ddof=1) if len(change) > 1 else None
            variance = row["log_w_variance_change"]
            row["slope"] = row["nll_change"] / variance if variance else None
            rows.append(row)
    return pandas.DataFrame(rows)


def optima(metrics):
    """Problem: one row each; the bound along its training, the pull of bound and variance, means over seeds."""
    rows = []
    for problem in metrics.problems:
        curves = metrics.curves(problem)
        steps = {point["lr"]: k for k, point in enumerate(curves[0])}  # the last entry of each rate
        ends = [0, list(steps.values())[-2] if len(steps) > 1 else 0, len(curves[0]) - 1]
        values = np.array([[curve[k]["elbo_nll"] for k in ends] for curve in curves])
        row = {"problem": problem, **dict(zip(("first", "before", "last"), values.mean(0)))}
        row["last_standard_error"] = _joined([curve[-1]["standard_error"] or np.nan for curve in curves])
        for checkpoint in ("pretrained", "optimum"):
            squared, product, variance = (
                metrics.pull(problem, checkpoint, name)
                for name in ("bound_squared", "bound_variance", "variance_squared")
            )
            errors = metrics.pull(problem, checkpoint, "bound_squared", "standard_error")
            row[f"bound_squared_{checkpoint}"] = squared.mean()
            row[f"bound_squared_{checkpoint}_standard_error"] = _joined(errors)
            row[f"variance_squared_{checkpoint}"] = variance.mean()
            row[f"pull_{checkpoint}"] = product.mean() / variance.mean()
            errors = metrics.pull(problem, checkpoint, "bound_variance", "standard_error")
            row[f"pull_{checkpoint}_standard_error"] = _joined(errors) / abs(variance.mean())
        rows.append(row)
    return pandas.DataFrame(rows)


def _joined(errors):
    """The standard error of a mean of independent estimates with these standard errors."""
    return float(np.sqrt(np.square(errors).sum()) / len(errors))


def _spread(row, key):
    value, deviation = row[f"{key}_change"], row[f"{key}_change_deviation"]
    if row["arm"] == "bound+0":
        return ""
    return signed(value, 5) + ("" if pandas.isna(deviation) else f" ± {number(deviation, 5)}")


def _with_error(row, key):
    return f"{signed(row[key], 3)} ± {number(row[f'{key}_standard_error'], 3)}"


def _about(metrics):
    value, seeds = next(iter(metrics.signed.values())), len(metrics.settings.seeds)
    return f"scale `{metrics.name}`, T = {value['timesteps']}, {seeds} seed{'s' * (seeds > 1)}"


def _arms_caption(metrics):
    value, settings = next(iter(metrics.signed.values())), metrics.settings
    trajectories = sorted({entry["trajectories"] for entry in metrics.signed.values()})
    return (
        f"**Signed λ** ({_about(metrics)}, {value['points']} test points a seed, {trajectories[0]} to {trajectories[-1]} "
        f"trajectories a point). Every arm starts at the optimum of the bound and trains for {settings.arms.steps} steps on "
        f"the same points and noise. Δ: minus the arm λ = 0 of the same seed, mean ± standard deviation over seeds, in nats "
        "(nats², nats³); NLL is importance-weighted, its changes less their expected bias; the bound is that of −log p. "
        "Predicted at small λ: ΔNLL/ΔVar = −½, Δbound = 0."
    )


def _optimum_caption(metrics):
    return (
        f"**How near the optimum of the bound was** ({_about(metrics)}). The bound on training points in the first window "
        "of its training, in the last one before the smallest learning rate, and in the last, nats; the squared norm of the "
        "mean gradient of N = −bound, and its component along that of V = Var[log w], by unbiased estimates ± standard "
        "error. ∇N = 0 at an optimum; above ½ in the columns ∇N·∇V/‖∇V‖², λ > 0 would lower NLL."
    )
