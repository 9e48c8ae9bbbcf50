"""Table 1 and the table of scores: every family as a GFlowNet, with numbers that prove it."""

import pandas

__all__ = [
    "DETERMINISTIC",
    "check_cells",
    "make",
    "markdown",
    "score_table",
    "scores_caption",
    "scores_markdown",
    "summary_markdown",
    "table1",
    "table1_caption",
    "table1_markdown",
]

DETERMINISTIC = {"neither": "no", "P_F": "P_F is", "P_B": "P_B is", "both": "both are"}


def make(name, settings, families):
    """``{file name: text}``: table1.{csv,md}, families.{csv,md}; ``families`` as ``metrics.read`` returns them."""
    scores = score_table(families)
    return {
        "table1.csv": table1(families).to_csv(index=False, lineterminator="\n"),
        "table1.md": f"{table1_caption(name, families)}\n\n{table1_markdown(families)}\n",
        "families.csv": scores.to_csv(index=False, lineterminator="\n"),
        "families.md": f"{scores_caption(name, settings)}\n\n{scores_markdown(scores)}\n",
    }


def table1(families):
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
            for value in families.values()
            for check in value["checks"]
        ]
    )


def table1_markdown(families):
    """Table 1 for a reader: what a family is stands in its first row only."""
    rows = []
    for value in families.values():
        about = [
            value["title"],
            *value["policies"],
            DETERMINISTIC[value["deterministic"]],
            value["objective"],
        ]
        for k, check in enumerate(value["checks"]):
            rows.append([*(about if k == 0 else [""] * len(about)), *check_cells(check)])
    titles = ("family", "P_F", "P_B", "deterministic?", "training objective as a GFlowNet objective")
    return markdown(rows, [*titles, "what was checked", "measured disagreement", "tolerance"], right=(6, 7))


def check_cells(check):
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


def summary_markdown(families):
    """A row a family, for the README."""
    rows = [
        [
            value["title"],
            *value["policies"],
            DETERMINISTIC[value["deterministic"]],
            value["objective"],
            f"{sum(check['passed'] for check in value['checks'])} of {len(value['checks'])}",
        ]
        for value in families.values()
    ]
    titles = ["family", "P_F", "P_B", "deterministic?", "training objective as a GFlowNet objective"]
    return markdown(rows, [*titles, "checks passed"], right=(5,))


def score_table(families):
    """Mean and standard deviation over seeds of every score, full precision."""
    rows = []
    for value in families.values():
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
    return markdown(rows, ["family", "data", "score", "mean ± sd over seeds"], right=(3,))


def _spread(row):
    """``mean ± sd`` with as many digits as the smaller of both needs."""
    mean, deviation = row["mean"], row["standard_deviation"]
    small = abs(mean) < 0.01 or abs(mean) >= 1e5
    text = scientific(mean) if small and mean else f"{mean:.4g}".replace("-", "−")
    same = pandas.isna(deviation) or deviation <= 1e-9 * abs(mean)  # one seed, or nothing that a seed changes
    return text if same else f"{text} ± {scientific(deviation)}"


def markdown(rows, headers, right=()):
    from tabulate import tabulate

    return tabulate(
        [[str(cell).replace("|", "\\|") for cell in row] for row in rows],
        headers=headers,
        tablefmt="pipe",
        colalign=["right" if k in right else "left" for k in range(len(headers))],
        disable_numparse=True,
    )


def table1_caption(name, families):
    checks = [check for value in families.values() for check in value["checks"]]
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
