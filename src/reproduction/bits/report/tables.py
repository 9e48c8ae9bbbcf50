"""The table of the planar problems as 32 bits, beside EB-GFN's published values."""

import numpy as np
import pandas

from reproduction.bits.report.metrics import ARMS
from reproduction.drawing.tables import markdown, number, spread

__all__ = ["caption", "make", "orders", "published", "table"]

EB_GFN_POINTS = 100_000 * 128  # data points that EB-GFN's code draws with its default settings
DIGITS = 16


def make(metrics, values):
    """``{file name: text}``: bits.{csv,md}; ``values`` as of :func:`published`."""
    frame = table(metrics, values)
    return {
        "bits.csv": frame.to_csv(index=False, lineterminator="\n"),
        "bits.md": f"{caption(metrics)}\n\n{markdown(frame, COLUMNS)}\n\n{orders(metrics)}",
    }


def published(claims):
    """{(metric, problem): value} of EB-GFN: those that the claims quote."""
    return {
        (claim.test.metric, problem): value
        for claim in claims
        for problem, value in claim.test.values.items()
    }


def table(metrics, values):
    """Problem × arm: one row each; means over seeds, full precision."""
    rows = []
    for problem, value in metrics.bits.items():
        for arm in metrics.arms:
            runs = metrics.runs(problem, arm)
            row = {
                "problem": problem,
                "arm": arm,
                "seeds": len(runs),
                "trajectories": runs[0]["trajectories"],
            }
            for key in ("nll", "elbo_nll", "mmd"):
                values_of_runs = np.array([run[key] for run in runs])
                row[key] = values_of_runs.mean()
                row[f"{key}_deviation"] = values_of_runs.std(ddof=1) if len(values_of_runs) > 1 else None
            rows.append(
                {
                    **row,
                    "nll_standard_error": max(run["nll_standard_error"] for run in runs),
                    "data_entropy": value["entropy"],
                    "eb_gfn_nll": values.get(("nll", problem), np.nan),
                    "log_w_variance": np.mean([run["log_w_variance"] for run in runs]),
                    "mmd_floor_mean": value["mmd_floor"]["mean"],
                    "mmd_floor_quantile_95": value["mmd_floor"]["quantile_95"],
                    "eb_gfn_mmd": values.get(("mmd", problem), np.nan),
                    "data_points": runs[0]["evaluations"]["points"],
                    "forward_states": runs[0]["evaluations"]["forward"],
                    "backward_states": runs[0]["evaluations"]["backward"],
                }
            )
    return pandas.DataFrame(rows)


def _million(key):
    return lambda row: number(row[key] / 1e6, 2)


COLUMNS = {
    "problem": lambda row: row["problem"],
    "model": lambda row: ARMS[row["arm"]],
    "K": lambda row: str(row["trajectories"]),
    "NLL, nats (IW)": spread("nll", 3),
    "its SE": lambda row: number(row["nll_standard_error"], 4),
    "− entropy": lambda row: number(row["nll"] - row["data_entropy"], 4),
    "ELBO": spread("elbo_nll", 3),
    "Var log w": lambda row: number(row["log_w_variance"], 3),
    "data entropy": lambda row: number(row["data_entropy"], 3),
    "EB-GFN": lambda row: number(row["eb_gfn_nll"], 3),
    "MMD² · 10⁴": spread("mmd", 2, 1e4),
    "floor: 95 %": lambda row: number(1e4 * row["mmd_floor_quantile_95"], 2),
    "EB-GFN ": lambda row: number(1e4 * row["eb_gfn_mmd"], 3),
    "data, 10⁶": _million("data_points"),
    "P_F states, 10⁶": _million("forward_states"),
    "P_B states, 10⁶": _million("backward_states"),
}


def caption(metrics):
    value, seeds = next(iter(metrics.bits.values())), len(metrics.settings.seeds)
    return (
        f"**The planar problems as 32 Gray-coded bits** (scale `{metrics.name}`), {value['points']} test points; "
        f"mean ± standard deviation over {seeds} seed{'s' * (seeds != 1)}. NLL by importance weighting with K "
        "trajectories of P_B a point (an ordered P_B has one, and the NLL is exact), as the data's entropy plus the "
        "mean of log p_data − log p_model over the points, whose standard error is the column “its SE”; “− entropy”: "
        "what is lost to the data's own distribution. EB-GFN: as a public leaderboard lists it (claims/bits.yaml); blank: "
        f"no source. MMD²: {value['mmd_kernel']}, {value['mmd_points']} samples against as many data, and the 95 % "
        "quantile of the same between data and data. Data: points drawn in training; EB-GFN's code draws "
        f"{EB_GFN_POINTS / 1e6:.1f} · 10⁶. States: evaluations of each policy's network in training, with and without "
        "a gradient. “ordered”: P_B empties the least significant digits first, which no training had to find."
    )


def orders(metrics):
    """In which order a learned P_B empties the digits: a line a problem, averaged over coordinates and seeds."""
    lines = []
    for arm in (arm for arm in metrics.arms if arm.startswith("learned")):
        for problem in metrics.bits:
            mean = np.mean([run["order"] for run in metrics.runs(problem, arm)], axis=0)
            digits = mean.reshape(-1, DIGITS).mean(axis=0)
            slope = np.polyfit(np.arange(DIGITS), digits, 1)[0]
            lines.append(
                f"- {problem}, {ARMS[arm]}: sign {digits[0]:.1f}, first digit {digits[1]:.1f}, last {digits[-1]:.1f}; "
                f"slope {slope:+.3f} a digit".replace("-0", "−0")
            )
    if not lines:
        return ""
    return (
        "Mean step, of 32, at which a learned P_B empties a digit (16.5: no preference; the ordered one goes from 31.5 "
        "for the sign to 1.5 for the last digit, slope −2):\n\n" + "\n".join(lines) + "\n"
    )
