"""Table 1 and what goes with it: every family as a GFlowNet, with numbers that prove it."""

from pathlib import Path

import pandas

from mlegfn.errors import UserError
from mlegfn.report import families_figure, style
from mlegfn.report.inputs import arrays, contents

KEYS = (
    "title",
    "order",
    "policies",
    "deterministic",
    "objective",
    "data",
    "about",
    "checks",
    "runs",
    "panels",
)
DETERMINISTIC = {"neither": "no", "P_F": "P_F is", "P_B": "P_B is", "both": "both are"}


def read(name, settings, root="results"):
    """``{family: contents of its file}`` of a scale, in the order of Table 1.

    A missing or misfitting file is a UserError that says what makes it.
    """
    found = {}
    for family in settings.names:
        path, stage = Path(root) / name / "metrics" / "families" / f"{family}.json", f"family@{name}-{family}"
        found[family] = contents(path, stage, *KEYS)
        if {run["seed"] for run in found[family]["runs"]} != set(settings.seeds):
            raise UserError(f"{path}: has other seeds than params.yaml; run `dvc repro {stage}`")
    return dict(sorted(found.items(), key=lambda item: item[1]["order"]))


def make(name, settings, root="results"):
    """``{folder: {file name: bytes or text}}`` of the stage ``families``."""
    found = read(name, settings, root)
    samples = Path(root) / name / "families"
    panels = {
        family: arrays(
            samples / f"{family}.safetensors",
            [f"panel-{k}" for k in range(len(value["panels"]))],
            f"family@{name}-{family}",
        )
        for family, value in found.items()
    }
    table, scores = table1(found), score_table(found)
    formats = style.draw(families_figure.plot, found, panels)
    return {
        "tables": {
            "table1.csv": table.to_csv(index=False, lineterminator="\n"),
            "table1.md": f"{table1_caption(name, found)}\n\n{table1_markdown(found)}\n",
            "families.csv": scores.to_csv(index=False, lineterminator="\n"),
            "families.md": f"{scores_caption(name, settings)}\n\n{scores_markdown(scores)}\n",
        },
        "figures": {
            **{f"families.{ending}": content for ending, content in formats.items()},
            "families.md": figure_caption(name, settings, found) + "\n",
        },
        "report": {"families.md": page(name, settings, found, scores)},
    }


def table1(found):
    """A row a check, full precision."""
    return pandas.DataFrame(
        [
            {
                "family": value["title"],
                "p_f": value["policies"][0],
                "p_b": value["policies"][1],
                "deterministic": value["deterministic"],
                "objective": value["objective"],
                "checked": check["what"],
                "proposition": check["proposition"] if check["proposition"] is not None else "",
                "disagreement": check["disagreement"],
                "tolerance": check["tolerance"],
                "unit": check["unit"],
                "passed": check["passed"],
            }
            for value in found.values()
            for check in value["checks"]
        ]
    )


def table1_markdown(found):
    """Table 1 for a reader: what a family is stands in its first row only."""
    rows = []
    for value in found.values():
        about = [
            value["title"],
            *value["policies"],
            DETERMINISTIC[value["deterministic"]],
            value["objective"],
        ]
        for k, check in enumerate(value["checks"]):
            rows.append([*(about if k == 0 else [""] * len(about)), *_check_cells(check)])
    titles = ("family", "P_F", "P_B", "deterministic?", "training objective as a GFlowNet objective")
    return _markdown(rows, [*titles, "what was checked", "measured disagreement", "tolerance"], right=(6, 7))


def _check_cells(check):
    proposition = f" (Proposition {check['proposition']})" if check["proposition"] is not None else ""
    failed = "" if check["passed"] else " ✗"
    return (
        check["what"] + proposition,
        f"{scientific(check['disagreement'])} {check['unit']}{failed}",
        scientific(check["tolerance"]),
    )


def scientific(value):
    """``3.2e-11``, ``0``, ``0.0123``: two digits that matter."""
    if value == 0:
        return "0"
    text = f"{value:.1e}" if abs(value) < 1e-3 or abs(value) >= 1e4 else f"{value:.3g}"
    return text.replace("e-0", "e-").replace("e+0", "e").replace("-", "−")


def summary_markdown(found):
    """A row a family, for the README."""
    rows = [
        [
            value["title"],
            *value["policies"],
            DETERMINISTIC[value["deterministic"]],
            value["objective"],
            f"{sum(check['passed'] for check in value['checks'])} of {len(value['checks'])}",
        ]
        for value in found.values()
    ]
    titles = ["family", "P_F", "P_B", "deterministic?", "training objective as a GFlowNet objective"]
    return _markdown(rows, [*titles, "checks passed"], right=(5,))


def score_table(found):
    """Mean and standard deviation over seeds of every score, full precision."""
    rows = []
    for value in found.values():
        frame = pandas.DataFrame([run["scores"] for run in value["runs"]])
        rows += [
            {
                "family": value["title"],
                "data": value["data"],
                "score": what,
                "mean": frame[what].mean(),
                "standard_deviation": frame[what].std() if len(frame) > 1 else None,
                "seeds": len(frame),
            }
            for what in frame
        ]
    return pandas.DataFrame(rows)


def scores_markdown(scores):
    rows, last = [], None
    for row in scores.to_dict("records"):
        about = ["", ""] if row["family"] == last else [row["family"], row["data"]]
        last = row["family"]
        rows.append([*about, row["score"], _spread(row)])
    return _markdown(rows, ["family", "data", "score", "mean ± sd over seeds"], right=(3,))


def _spread(row):
    """``mean ± sd`` with as many digits as the smaller of both needs."""
    mean, deviation = row["mean"], row["standard_deviation"]
    small = abs(mean) < 0.01 or abs(mean) >= 1e5
    text = scientific(mean) if small and mean else f"{mean:.4g}".replace("-", "−")
    same = pandas.isna(deviation) or deviation <= 1e-9 * abs(mean)  # one seed, or nothing that a seed changes
    return text if same else f"{text} ± {scientific(deviation)}"


def _markdown(rows, headers, right=()):
    from tabulate import tabulate

    return tabulate(
        [[str(cell).replace("|", "\\|") for cell in row] for row in rows],
        headers=headers,
        tablefmt="pipe",
        colalign=["right" if k in right else "left" for k in range(len(headers))],
        disable_numparse=True,
    )


def table1_caption(name, found):
    checks = [check for value in found.values() for check in value["checks"]]
    passed = sum(check["passed"] for check in checks)
    return (
        f"**Table 1** (scale `{name}`): every family as a GFlowNet. P_F generates, P_B explains; a row is one "
        "comparison of the GFlowNet's quantity with the family's own, computed by different formulas, mostly in "
        f"float64. {passed} of {len(checks)} are within their tolerance, which each family's file justifies; ✗ marks "
        "one that is not. Proposition numbers are the paper's; we do not hold its text, so their contents are our "
        "reading (docs/math.md)."
    )


def scores_caption(name, settings):
    seeds = len(settings.seeds)
    return (
        f"**Every family, trained** (scale `{name}`): scores on held-out data, mean ± standard deviation over {seeds} "
        f"seed{'s' * (seeds != 1)}. Trainings are seconds long, to show that each family works through the same "
        "interface, not which is best: data and networks differ."
    )


def figure_caption(name, settings, found):
    data = "; ".join(f"{value['title']}: {value['data']}" for value in found.values())
    return (
        f"**Every family, trained and sampled** (scale `{name}`, seed {settings.seeds[0]}). A row a family, through one "
        f"interface. {data}."
    )


def page(name, settings, found, scores):
    """The families' page: Table 1, the figure, and a section a family from its own file."""
    parts = [
        "# Every generative model family as a GFlowNet",
        "Written by the stage `families` from src/mlegfn/families, one file each, and what it measured; docs/math.md "
        "has the derivations. A new file there appears here, in Table 1 and in the property tests by itself.",
        table1_caption(name, found),
        table1_markdown(found),
        "![Every family, trained and sampled](../figures/families.png)",
        figure_caption(name, settings, found),
        scores_caption(name, settings),
        scores_markdown(scores),
    ]
    for family, value in found.items():
        rows = [_check_cells(check) for check in value["checks"]]
        parts += [
            f"## {value['title']}",
            f"`src/mlegfn/families/{family}.py`. P_F: {value['policies'][0]}. P_B: {value['policies'][1]}. "
            f"Deterministic: {DETERMINISTIC[value['deterministic']]}. Objective: {value['objective']}. Trained on: "
            f"{value['data']}.",
            value["about"],
            _markdown(rows, ["what was checked", "measured disagreement", "tolerance"], right=(1, 2)),
        ]
    return "\n\n".join(parts) + "\n"
