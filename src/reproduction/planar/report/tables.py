"""The table of the planar problems: CSV with full precision, Markdown rounded and with a caption."""

import pandas

from reproduction.drawing.tables import markdown, number, spread

__all__ = ["caption", "make", "planar"]

TITLES = {"ddpm": "DDPM", "vlb": "DDPM on L_vlb", "mle_gfn": "MLE-GFN"}
CSV = [
    *("problem", "model", "seeds", "nll", "nll_deviation", "nll_standard_error"),
    *("elbo_nll", "elbo_nll_deviation", "data_entropy", "mmd", "mmd_deviation"),
    *("mmd_floor_mean", "mmd_floor_quantile_95"),
]
# Column title → what it shows of a row.
COLUMNS = {
    "problem": lambda row: row["problem"],
    "model": lambda row: TITLES[row["model"]],
    "seeds": lambda row: str(row["seeds"]),
    "NLL, nats (IW)": spread("nll", 3),
    "its SE": lambda row: number(row["nll_standard_error"]),
    "NLL, nats (ELBO)": spread("elbo_nll", 3),
    "data entropy": lambda row: number(row["data_entropy"], 3),
    "MMD² · 10³": spread("mmd", 3, 1000),
    "floor: mean": lambda row: number(1000 * row["mmd_floor_mean"], 3),
    "floor: 95 %": lambda row: number(1000 * row["mmd_floor_quantile_95"], 3),
}


def make(metrics):
    """``{file name: text}``: planar.{csv,md}."""
    frame = planar(metrics)
    return {
        "planar.csv": frame.to_csv(index=False, lineterminator="\n"),
        "planar.md": f"{caption(metrics)}\n\n{markdown(frame, COLUMNS)}\n",
    }


def planar(metrics):
    """Problem × model: one row each; mean and standard deviation over seeds."""
    rows = []
    for problem, value in metrics.planar.items():
        for model in metrics.planar_models:
            row = {"problem": problem, "model": model, "seeds": len(metrics.settings.seeds)}
            for key in ("nll", "elbo_nll", "mmd"):
                values = metrics.values(problem, model, key)
                row[key] = values.mean()
                row[f"{key}_deviation"] = values.std(ddof=1) if len(values) > 1 else None
            row["nll_standard_error"] = metrics.values(problem, model, "nll_standard_error").max()
            row["data_entropy"] = value.get("entropy")
            row["mmd_floor_mean"] = value["mmd_floor"]["mean"]
            row["mmd_floor_quantile_95"] = value["mmd_floor"]["quantile_95"]
            rows.append(row)
    return pandas.DataFrame(rows, columns=CSV)


def caption(metrics):
    values = list(metrics.planar.values())
    trajectories = sorted({value["trajectories"] for value in values})
    seeds = len(metrics.settings.seeds)
    return (
        f"**Synthetic 2-D problems** (scale `{metrics.name}`), T = {values[0]['timesteps']}, "
        f"{values[0]['points']} test points; mean ± standard deviation over {seeds} seed{'s' * (seeds > 1)}. "
        f"NLL by importance weighting with {' to '.join(str(n) for n in _ends(trajectories))} trajectories a point "
        "(“its SE”: the estimate's own standard error, the largest of the seeds) and by the ELBO, both upper bounds "
        "in expectation; the data's entropy is the least that any density can reach, up to the chance of the points. "
        f"MMD² to fresh data ({values[0]['mmd_kernel']}), and the same between data and data, the floor: mean and "
        "95 % quantile, all times 1000. Lower is better. DDPM is trained on with L_simple for as many steps as MLE-GFN."
    )


def _ends(values):
    return values if len(values) < 2 else [values[0], values[-1]]
