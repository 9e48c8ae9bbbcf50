"""The tables of a scale: CSV with full precision, Markdown rounded and with a caption."""

import numpy as np
import pandas

from reproduction.drawing.tables import fine, markdown, number, signed, spread
from reproduction.images.report import choices, log_p, quality
from reproduction.images.report.comparison import budgets, differences
from reproduction.verdicts import statistics

REFERENCES = ("simple", "reweighted", "vlb", "baseline")  # of every run in the table `paired`


def make(metrics):
    """``{file name: text}``: {nll,paired,search,log_p,quality}.{csv,md}."""
    files = {}
    for name, (frame, columns, text) in {
        "nll": (nll(metrics), NLL, nll_caption(metrics)),
        "paired": (paired(metrics), PAIRED, paired_caption(metrics)),
        "search": (choices.frame(metrics), SEARCH, choices.caption(metrics)),
        "log_p": (log_p.frame(metrics), LOG_P, log_p.caption(metrics)),
        "quality": (quality.frame(metrics), QUALITY, quality.caption(metrics)),
    }.items():
        files[f"{name}.csv"] = frame.to_csv(index=False, lineterminator="\n")
        files[f"{name}.md"] = f"{text}\n\n{markdown(frame, columns)}\n"
    return files


def nll(metrics):
    """Checkpoint × arm at the last fine-tuning step, the baseline where it was saved: one row each."""
    rows = []
    for step in metrics.baseline_steps:
        rows.append(_row(metrics, step, "baseline", 0))
        if step in metrics.checkpoints:
            rows += [_arm_row(metrics, step, arm) for arm in metrics.arms]
    return pandas.DataFrame(rows, columns=_nll_columns()).astype({"seeds": int})


def _nll_columns():
    differences_to = [
        f"minus_{reference}{end}"
        for reference in ("simple", "baseline", "baseline_next")
        for end in ("", "_low", "_high")
    ]
    return [
        *("checkpoint", "arm", "step", "finetune_step", "seeds", "images", "bits_per_dim"),
        *("standard_error_seeds", "standard_error_images", "bits_per_dim_clipped", "train_bits_per_dim"),
        *differences_to[:3],
        *("minus_simple_bootstrap_low", "minus_simple_bootstrap_high"),
        *differences_to[3:],
        *("forward_evaluations", "backward_evaluations", "clipped_steps"),
        *("estimator", "standard_error_estimator"),
    ]


def _row(metrics, checkpoint, arm, finetune_step):
    """One model, averaged over its seeds: the baseline or an arm."""
    if arm == "baseline":
        points = [metrics.baseline[checkpoint, seed] for seed in metrics.seeds]
    else:
        points = [metrics.runs[checkpoint, arm, seed][finetune_step] for seed in metrics.seeds]
    own = np.stack([point.per_image for point in points])
    means, seeds = own.mean(axis=1), len(points)
    trained = [point.train for point in points if point.train is not None]
    return {
        "checkpoint": checkpoint,
        "arm": arm,
        "step": points[0].step,
        "finetune_step": finetune_step,
        "seeds": seeds,
        "images": own.shape[1],
        "bits_per_dim": means.mean(),
        "standard_error_seeds": means.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else None,
        "standard_error_images": own.mean(axis=0).std(ddof=1) / np.sqrt(own.shape[1]),
        "estimator": metrics.about["estimator"],
        "standard_error_estimator": max(point.estimator_error for point in points),
        "bits_per_dim_clipped": np.mean([point.clipped for point in points]),
        "train_bits_per_dim": np.mean(trained) if trained else None,
    }


def _arm_row(metrics, checkpoint, arm):
    last = metrics.steps[-1]
    spent = [metrics.evaluations[checkpoint, arm, seed] for seed in metrics.seeds]
    row = _row(metrics, checkpoint, arm, last) | {
        "forward_evaluations": np.mean([run["forward"] for run in spent]),
        "backward_evaluations": np.mean([run["backward"] for run in spent]),
        "clipped_steps": np.mean([metrics.clipped[checkpoint, arm, seed] for seed in metrics.seeds]),
    }
    for reference in ("simple", "baseline", "baseline_next"):
        if reference == arm or (reference == "simple" and "simple" not in metrics.arms):
            continue
        if last not in budgets(metrics, checkpoint, arm, reference):
            continue
        values = differences(metrics, checkpoint, arm, reference, last)
        interval = statistics.paired(values)
        row[f"minus_{reference}"] = interval.estimate
        row[f"minus_{reference}_low"], row[f"minus_{reference}_high"] = interval.low, interval.high
        if reference == "simple":
            low, high = statistics.bootstrap(values)
            row["minus_simple_bootstrap_low"], row["minus_simple_bootstrap_high"] = low, high
    return row


def paired(metrics):
    """Every checkpoint × arm × seed × measured step: one row each, its differences averaged over images."""
    rows = []
    for (checkpoint, arm, seed), points in metrics.runs.items():
        place = metrics.seeds.index(seed)
        for n in metrics.steps:
            row = {
                "checkpoint": checkpoint,
                "arm": arm,
                "seed": seed,
                "finetune_step": n,
                "evaluations": metrics.spent(checkpoint, arm, n),
                "bits_per_dim": points[n].bits_per_dim,
                "standard_error": points[n].standard_error,
                "bits_per_dim_clipped": points[n].clipped,
                "estimator": metrics.about["estimator"],
                "standard_error_estimator": points[n].estimator_error,
            }
            for reference in REFERENCES:
                if reference == arm or reference not in ("baseline", *metrics.arms):
                    continue
                if n in budgets(metrics, checkpoint, arm, reference):
                    values = differences(metrics, checkpoint, arm, reference, n)[place]
                    row[f"minus_{reference}"] = values.mean()
                    row[f"minus_{reference}_standard_error"] = values.std(ddof=1) / np.sqrt(len(values))
            rows.append(row)
    names = [f"minus_{r}{end}" for r in REFERENCES for end in ("", "_standard_error")]
    first = ["checkpoint", "arm", "seed", "finetune_step", "evaluations", "bits_per_dim", "standard_error"]
    last = ["estimator", "standard_error_estimator"]
    return pandas.DataFrame(rows, columns=[*first, "bits_per_dim_clipped", *names, *last])


def _count(value):
    return "" if pandas.isna(value) else f"{value:,.0f}"


def _with_bounds(key):
    return lambda row: (
        f"{signed(row[key])} [{signed(row[f'{key}_low'])}, {signed(row[f'{key}_high'])}]"
        if not pandas.isna(row[key])
        else ""
    )


def _get(key, show=str):
    return lambda row: show(row[key])


# Column title → what it shows of a row.
NLL = {
    "checkpoint": _get("checkpoint"),
    "arm": _get("arm"),
    "step": _get("step"),
    "seeds": _get("seeds"),
    "bits/dim": _get("bits_per_dim", number),
    "SE, seeds": _get("standard_error_seeds", fine),
    "SE, images": _get("standard_error_images", number),
    "clipped": _get("bits_per_dim_clipped", number),
    "− simple [95 %]": _with_bounds("minus_simple"),
    "− baseline, same step [95 %]": _with_bounds("minus_baseline"),
    "− baseline, next saved [95 %]": _with_bounds("minus_baseline_next"),
    "forward": _get("forward_evaluations", _count),
    "backward": _get("backward_evaluations", _count),
}
PAIRED = {
    "checkpoint": _get("checkpoint"),
    "arm": _get("arm"),
    "seed": _get("seed"),
    "fine-tuning step": _get("finetune_step"),
    "evaluations": _get("evaluations", _count),
    "bits/dim": _get("bits_per_dim", number),
    "clipped": _get("bits_per_dim_clipped", number),
    "− simple": _get("minus_simple", signed),
    "SE": _get("minus_simple_standard_error", fine),
    "− reweighted": _get("minus_reweighted", signed),
    "SE ": _get("minus_reweighted_standard_error", fine),
    "− vlb": _get("minus_vlb", signed),
    "SE  ": _get("minus_vlb_standard_error", fine),
    "− baseline": _get("minus_baseline", signed),
    "SE   ": _get("minus_baseline_standard_error", fine),
}
SEARCH = {
    "arm": _get("arm"),
    "λ": _get("weight", lambda v: "" if pandas.isna(v) else f"{v:g}"),
    "learning rate": _get("lr", lambda v: f"{v:g}"),
    "warm-up": _get("warmup", _count),
    "validation bits/dim": lambda row: row["note"] or number(row["bits_per_dim"]),
    "clipped steps": _get("clipped_share", lambda v: "" if pandas.isna(v) else f"{100 * v:.0f} %"),
    "chosen": _get("chosen", lambda v: "yes" if v else ""),
}
LOG_P = {
    "model": _get("model"),
    "log p̂ (nats)": _get("log_p", number),
    "SE, trajectories": _get("standard_error", fine),
    "with half of them": _get("log_p_half", number),
    "bound (nats)": _get("elbo", number),
    "Var log w (nats²)": _get("variance", number),
    "log p̂ − that of simple [95 %]": _with_bounds("minus_simple"),
}
QUALITY = {
    "model": _get("model"),
    "step": _get("step", _count),
    "SWD, pixels": spread("swd_pixels"),
    "÷ floor": _get("swd_pixels_over_floor", lambda v: number(v, 2)),
    "SWD, patches": spread("swd_patches"),
    "÷ floor ": _get("swd_patches_over_floor", lambda v: number(v, 2)),
    "FID": _get("fid", lambda v: number(v, 2) or "not measured"),
    "Inception Score": lambda row: (
        "not measured" if pandas.isna(row["inception_score"]) else spread("inception_score", 2)(row)
    ),
}


def _conditions(metrics):
    about = metrics.about
    return (
        f"{about['images']} test images of `{metrics.data}` ({about['levels']} levels), T = {about['timesteps']}, "
        f"discretised decoder with the {about['decoder']} Gaussian CDF, reverse variances `{about['variance']}`, "
        f"{estimator(metrics)}"
    )


def estimator(metrics):
    """Which estimator made the NLLs, and how far from the full sum over t it may be."""
    if metrics.about["estimator"] == "full":
        return "every t of every image"
    points = [*metrics.baseline.values(), *(p for run in metrics.runs.values() for p in run.values())]
    return (
        f"estimated from {metrics.about['evaluations']:.4g} of the {metrics.about['timesteps']} t an image "
        f"(`{metrics.about['estimator']}`: the same for every model; standard error against all t at most "
        f"{fine(max(p.estimator_error for p in points))}, which the SE over images includes)"
    )


def nll_caption(metrics):
    seeds = len(metrics.seeds)
    over = (
        f"the mean over {seeds} pretraining seeds, each with its own fine-tunes; intervals at 95 % over seeds and images"
        if seeds > 1
        else "one seed; intervals at 95 % over images only"
    )
    return (
        f"**NLL** (scale `{metrics.name}`), bits/dim, lower is better: {_conditions(metrics)}. "
        f"x̂_0 is not clipped, except in the column “clipped”. Arms after {metrics.steps[-1]} fine-tuning steps, "
        f"{over}. SE: standard error. Differences are paired by seed and image. The baseline at the same step is "
        "interpolated linearly between saved steps, which for a convex curve is a little too high; “next saved” is "
        "the first saved step at or after it, which has seen more data. Forward, backward: network evaluations of "
        "one fine-tuning, one image counted once."
    )


def paired_caption(metrics):
    return (
        f"**Every run** (scale `{metrics.name}`), bits/dim: {_conditions(metrics)}; x̂_0 not clipped, except in the "
        "column “clipped”. Differences to the other arm with the same seed at the same fine-tuning step, and to "
        "the baseline (linear between saved steps), averaged over images; SE: their standard error over images. "
        "Evaluations: forward + backward up to this step."
    )
