"""The planar problems as 32 bits: the table beside EB-GFN's published values, the figure and the verdicts."""

import json
from pathlib import Path

import numpy as np
import pandas

from mlegfn.errors import UserError
from mlegfn.report import density, style, verdict
from mlegfn.report.inputs import arrays, contents
from mlegfn.report.tables import markdown, number

ARMS = {
    "random": "random P_B",
    "random_tbc": "random P_B + TBC",
    "learned": "learned P_B",
    "learned_tbc": "learned P_B + TBC",
    "ordered": "ordered P_B",
}
EB_GFN_POINTS = 100_000 * 128  # data points that EB-GFN's code draws with its default settings
KEYS = ("entropy", "points", "runs", "mmd_floor", "mmd_points", "mmd_kernel")
DIGITS = 16


class Metrics:
    """The metrics of one scale's discrete problems, as its settings name them.

    :ivar discrete: {problem: the contents of its file}
    """

    def __init__(self, name, settings, root="results"):
        """Read them; a missing or misfitting file is a UserError that says what makes it."""
        self.name, self.settings, self.arms, self.discrete = name, settings, settings.arms, {}
        self.several_seeds = len(settings.seeds) > 1
        for problem in settings.problems:
            path, stage = (
                Path(root) / name / "metrics" / "discrete" / f"{problem}.json",
                (f"discrete@{name}-{problem}"),
            )
            value = self.discrete[problem] = contents(path, stage, *KEYS)
            have = {(run["model"], run["seed"]) for run in value["runs"]}
            for arm in settings.arms:
                for seed in settings.seeds:
                    if (arm, seed) not in have:
                        raise UserError(f"{path}: no run of {arm} with seed {seed}; run `dvc repro {stage}`")

    def runs(self, problem, arm):
        """The runs of an arm, in the order of the settings' seeds."""
        runs = {(run["model"], run["seed"]): run for run in self.discrete[problem]["runs"]}
        return [runs[arm, seed] for seed in self.settings.seeds]


def make(name, settings, claims, root="results"):
    """``{folder: {file name: bytes or text}}`` of the stage ``discrete_report``."""
    metrics = Metrics(name, settings, root)
    report = verdict.decide(metrics, claims)
    frame = table(metrics, published(claims))
    rows = ("data", *settings.arms)
    points = {
        problem: arrays(
            Path(root) / name / "discrete" / f"{problem}.safetensors", rows, f"discrete@{name}-{problem}"
        )
        for problem in settings.problems
    }
    titles = {"data": "data", **{arm: ARMS[arm] for arm in settings.arms}}
    formats = style.draw(density.grid, points, titles, interpolation="none", size=7)
    return {
        "tables": {
            "discrete.csv": frame.to_csv(index=False, lineterminator="\n"),
            "discrete.md": f"{caption(metrics)}\n\n{markdown(frame, COLUMNS)}\n\n{orders(metrics)}",
        },
        "figures": {
            **{f"discrete.{ending}": content for ending, content in formats.items()},
            "discrete.md": figure_caption(metrics) + "\n",
        },
        "report": {
            "discrete.json": json.dumps(report, indent=1, sort_keys=True, allow_nan=False) + "\n",
            "discrete.md": verdict.markdown(report),
        },
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
    for problem, value in metrics.discrete.items():
        for arm in metrics.arms:
            runs = metrics.runs(problem, arm)
            row = {
                "problem": problem,
                "arm": arm,
                "seeds": len(runs),
                "trajectories": runs[0]["trajectories"],
            }
            for key in ("nll", "elbo_nll", "mmd"):
                each = np.array([run[key] for run in runs])
                row[key] = each.mean()
                row[f"{key}_deviation"] = each.std(ddof=1) if len(each) > 1 else None
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


def _spread(key, digits, factor=1):
    def show(row):
        text, deviation = number(row[key] * factor, digits), row[f"{key}_deviation"]
        return text if pandas.isna(deviation) else f"{text} ± {number(deviation * factor, digits)}"

    return show


def _million(key):
    return lambda row: number(row[key] / 1e6, 2)


COLUMNS = {
    "problem": lambda row: row["problem"],
    "model": lambda row: ARMS[row["arm"]],
    "K": lambda row: str(row["trajectories"]),
    "NLL, nats (IW)": _spread("nll", 3),
    "its SE": lambda row: number(row["nll_standard_error"], 4),
    "− entropy": lambda row: number(row["nll"] - row["data_entropy"], 4),
    "ELBO": _spread("elbo_nll", 3),
    "Var log w": lambda row: number(row["log_w_variance"], 3),
    "data entropy": lambda row: number(row["data_entropy"], 3),
    "EB-GFN": lambda row: number(row["eb_gfn_nll"], 3),
    "MMD² · 10⁴": _spread("mmd", 2, 1e4),
    "floor: 95 %": lambda row: number(1e4 * row["mmd_floor_quantile_95"], 2),
    "EB-GFN ": lambda row: number(1e4 * row["eb_gfn_mmd"], 3),
    "data, 10⁶": _million("data_points"),
    "P_F states, 10⁶": _million("forward_states"),
    "P_B states, 10⁶": _million("backward_states"),
}


def caption(metrics):
    value, seeds = next(iter(metrics.discrete.values())), len(metrics.settings.seeds)
    return (
        f"**The planar problems as 32 Gray-coded bits** (scale `{metrics.name}`), {value['points']} test points; "
        f"mean ± standard deviation over {seeds} seed{'s' * (seeds != 1)}. NLL by importance weighting with K "
        "trajectories of P_B a point (an ordered P_B has one, and the NLL is exact), as the data's entropy plus the "
        "mean of log p_data − log p_model over the points, whose standard error is the column “its SE”; “− entropy”: "
        "what is lost to the data's own distribution. EB-GFN: as a public leaderboard lists it (claims.yaml); blank: "
        f"no source. MMD²: {value['mmd_kernel']}, {value['mmd_points']} samples against as many data, and the 95 % "
        "quantile of the same between data and data. Data: points drawn in training; EB-GFN's code draws "
        f"{EB_GFN_POINTS / 1e6:.1f} · 10⁶. States: evaluations of each policy's network in training, with and without "
        "a gradient. “ordered”: P_B empties the least significant digits first, which no training had to find."
    )


def orders(metrics):
    """In which order a learned P_B empties the digits: a line a problem, averaged over coordinates and seeds."""
    lines = []
    for arm in (arm for arm in metrics.arms if arm.startswith("learned")):
        for problem in metrics.discrete:
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


def figure_caption(metrics):
    counts = metrics.settings.problems
    return (
        f"**The planar problems as 32 bits** (scale `{metrics.name}`, seed {metrics.settings.seeds[0]}): data above, "
        f"samples of each arm below, as smoothed histograms of the cells' centres; {len(counts)} problems, rows of a "
        "column share frame and colour range."
    )
