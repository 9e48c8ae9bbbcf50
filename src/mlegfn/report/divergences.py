"""GFlowNets trained by divergences (arXiv 2410.09355): all that the stage ``divergences_report`` writes."""

import json

from mlegfn.report import (
    divergence_densities,
    divergence_evidence,  # noqa: F401  adds its kinds of test to those of `verdict`
    divergence_ranking,
    divergence_table,
    divergences_figures,
    style,
    verdict,
)
from mlegfn.report.divergence_metrics import Metrics


def make(name, settings, claims, root="results"):
    """``{folder: {file name: bytes or text}}`` of the stage ``divergences_report``: the same files at every scale.

    :param settings: the scale's block ``divergences``
    """
    metrics = Metrics(name, settings, root)
    report, frame = verdict.decide(metrics, claims), divergence_table.table(metrics)
    figures, captions = {}, {}
    for each, (arguments, plot, caption) in _pictures(metrics).items():
        name, captions[each] = f"divergences-{each}", caption
        figures |= {f"{name}.{ending}": content for ending, content in style.draw(plot, *arguments).items()}
        figures[f"{name}.md"] = caption + "\n"
    return {
        "tables": {
            "divergences.csv": frame.to_csv(index=False, lineterminator="\n"),
            "divergences-gradients.csv": divergence_table.gradients(metrics).to_csv(
                index=False, lineterminator="\n"
            ),
            "divergences-gradients.md": divergence_table.gradients_markdown(metrics) + "\n",
            "divergences.md": f"{divergence_table.caption(metrics)}\n\n{divergence_table.markdown(frame)}\n",
        },
        "figures": figures,
        "report": {
            "divergences.json": json.dumps(report, indent=1, sort_keys=True, allow_nan=False) + "\n",
            "divergences.md": verdict.markdown(report),
            "divergences-objectives.md": divergence_ranking.page(metrics, captions),
        },
    }


def _pictures(metrics):
    """{figure: (arguments, function, caption)}; where the scale lacks the data, the figure says so."""
    curves, densities = divergences_figures, divergence_densities
    pictures = {
        "curves": ((metrics,), curves.curves, curves.curves_caption(metrics)),
        "variance": ((metrics,), curves.variance, curves.variance_caption(metrics))
        if metrics.gradients
        else _absent(metrics, "Covariance of the gradients"),
        "alpha": (
            (metrics.alpha, metrics.alpha_densities()),
            densities.alpha,
            densities.alpha_caption(metrics),
        )
        if metrics.alpha
        else _absent(metrics, "The effect of α"),
    }
    for task in ("banana", "mixture"):
        pictures[task] = (
            (
                (metrics, task, metrics.densities(task)),
                densities.grid,
                densities.grid_caption(metrics, task),
            )
            if task in metrics.tasks
            else _absent(metrics, f"Densities of the {task}")
        )
    return pictures


def _absent(metrics, what):
    text = f"{what}: not measured at the scale {metrics.name}."
    return (text,), _only_text, f"**{text}**"


def _only_text(text):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 0.5))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure
