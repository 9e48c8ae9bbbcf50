"""Stage ``divergences.report``: the divergence experiments → tables, figures, verdicts, which objective to use.

In:  metrics, densities, claims/divergences.yaml
Out: tables/{divergences,gradients}.{csv,md}, figures/{curves,variance,alpha,banana,mixture}.{pdf,svg,png,md},
     report/verdict.{json,md}, report/objectives.md
"""

import json

from mlegfn.artifacts import write_bytes
from reproduction.divergences.report import densities, evidence, figures, ranking, tables
from reproduction.divergences.report.metrics import Metrics
from reproduction.drawing import style
from reproduction.verdicts import claims, verdict

__all__ = ["files", "run"]


def run(stage):
    for folder in ("metrics", "densities"):
        stage.input(stage.path(folder))
    metrics = Metrics(stage.scale, stage.settings)
    for path, content in files(metrics, claims.load("claims/divergences.yaml", evidence.KINDS)).items():
        write_bytes(stage.path(path), content if isinstance(content, bytes) else content.encode())


def files(metrics, claimed):
    """{path below results/<scale>/divergences: bytes or text} of all that the stage writes, the same at every scale.

    claimed: the claims of claims/divergences.yaml.
    """
    report, frame = verdict.decide(metrics, claimed, evidence.TESTS), tables.table(metrics)
    written, captions = {}, {}
    for name, (arguments, plot, caption) in _pictures(metrics).items():
        for ending, content in style.draw(plot, *arguments).items():
            written[f"figures/{name}.{ending}"] = content
        written[f"figures/{name}.md"] = caption + "\n"
        captions[name] = caption
    gradients = tables.gradients(metrics)
    return written | {
        "tables/divergences.csv": frame.to_csv(index=False, lineterminator="\n"),
        "tables/divergences.md": f"{tables.caption(metrics)}\n\n{tables.markdown(frame)}\n",
        "tables/gradients.csv": gradients.to_csv(index=False, lineterminator="\n"),
        "tables/gradients.md": tables.gradients_markdown(metrics) + "\n",
        "report/verdict.json": json.dumps(report, indent=1, sort_keys=True, allow_nan=False) + "\n",
        "report/verdict.md": verdict.markdown(report),
        "report/objectives.md": ranking.page(metrics, captions),
    }


def _pictures(metrics):
    """{figure: (arguments, function, caption)}; where the scale lacks the task, the figure says so."""
    pictures = {
        "curves": ((metrics,), figures.curves, figures.curves_caption(metrics)),
        "variance": ((metrics,), figures.variance, figures.variance_caption(metrics)),
        "alpha": (
            (metrics.alpha, metrics.alpha_densities()),
            densities.alpha,
            densities.alpha_caption(metrics),
        ),
    }
    for task in ("banana", "mixture"):
        if task in metrics.tasks:
            arguments = (metrics, task, metrics.densities(task))
            pictures[task] = (arguments, densities.grid, densities.grid_caption(metrics, task))
        else:
            text = f"Densities of the {task}: not measured at the scale {metrics.name}."
            pictures[task] = ((text,), _only_text, f"**{text}**")
    return pictures


def _only_text(text):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 0.5))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure
