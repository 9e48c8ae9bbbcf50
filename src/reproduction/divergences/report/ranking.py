"""Which objective to use, from what was measured: report/objectives.md, which docs/objectives.md shows."""

import numpy as np
import pandas

from reproduction.divergences.report.metrics import OBJECTIVES
from reproduction.divergences.report.tables import significant, text_table

FLOWS = {None: "none", "state": "of states", "edge": "of edges"}


def page(metrics, captions):
    """Markdown with a ranking and the figures, whose links start at the folder ``report``.

    :param captions: {figure: its caption}, in order
    """
    parts = [
        f"Measured at the scale `{metrics.name}`: {_size(metrics)}. [All numbers](../tables/divergences.md); "
        "[verdicts on the paper's claims](../report/verdict.md).",
        text_table(
            table(metrics), left=("objective", "learns log Z", "learns flows", "off-policy", "evaluates")
        ),
        "Per task: the exact metric after training over that of the best objective (mean over seeds), so 1 is the best; "
        "†: cannot be told apart from it, for the 95 % interval of the difference, paired by seed, reaches 0. "
        "“As good as the best”: on how many of the tasks that an objective was trained on. The order is by that share, then by the geometric mean of the "
        "ratios. “Floor”: the metric that Monte-Carlo samples of the target itself would show, over the best exact one: "
        "above 1, so many samples could not tell the best policy from the target. Off-policy: valid for trajectories of "
        "any policy. Evaluates: where a step needs the network, once to draw a trajectory and once with its gradient.",
        *(f"![{name}](../figures/{name}.png)\n\n{text}" for name, text in captions.items()),
    ]
    return "\n\n".join(parts) + "\n"


def table(metrics):
    """A frame of texts: a row an objective, the best first; then the best value of each task, and the floor."""
    best = {task: metrics.best(task) for task in metrics.tasks}
    lowest = {task: metrics.values(task, name).mean() for task, (name, _) in best.items()}
    rows = []
    for name, about in OBJECTIVES.items():
        tasks = [task for task in metrics.tasks if metrics.has(task, name)]
        if not tasks:
            continue
        ratios = {task: metrics.values(task, name).mean() / lowest[task] for task in tasks}
        judged = [task for task in tasks if metrics.several_seeds(task)]
        near = [task for task in judged if name in best[task][1]]
        row = {
            "objective": about.title,
            "learns log Z": "yes" if about.log_z else "no",
            "learns flows": FLOWS[about.flows],
            "off-policy": "no" if about.on_policy else "yes",
            "evaluates": "states and their parents" if about.flows == "edge" else "states",
            "as good as the best": f"{len(near)} of {len(judged)}" if judged else "one seed: not judged",
        }
        for task, value in metrics.tasks.items():
            mark = "†" if task in near else ""
            row[value["title"]] = f"{_ratio(ratios[task])}{mark}" if task in ratios else ""
        share = len(near) / len(judged) if judged else 0.0
        rows.append(((-share, float(np.exp(np.mean(np.log(list(ratios.values())))))), row))
    rows = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    rows.append(
        _last(
            "*the best's value*",
            metrics,
            lambda task, value: f"{value['metric']} {significant(lowest[task])}",
        )
    )
    rows.append(_last("*floor*", metrics, lambda task, value: _ratio(value["floor"]["value"] / lowest[task])))
    return pandas.DataFrame(rows).fillna("")


def _last(title, metrics, show):
    return {
        "objective": title,
        **{value["title"]: show(task, value) for task, value in metrics.tasks.items()},
    }


def _ratio(value):
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _size(metrics):
    sizes = [
        f"{value['title']} ({value['batch'] * value['steps']:,} trajectories, floor from "
        f"{value['floor']['samples']:,} samples)"
        for value in metrics.tasks.values()
    ]
    return ", ".join(sizes)
