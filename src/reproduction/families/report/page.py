"""The families' page: Table 1, the figure, and a section for each family, from its own file."""

from reproduction.families.report import figure, tables

__all__ = ["page"]


def page(name, settings, families):
    """The page in Markdown; ``families`` as ``metrics.read`` returns them."""
    parts = [
        "# Every generative model family as a GFlowNet",
        "Written by the stage `families_report` from src/mlegfn/families, one file each, and what the stages `family` "
        "measured; docs/math.md has the derivations. docs/families.md says how to add one.",
        tables.table1_caption(name, families),
        tables.table1_markdown(families),
        "![Every family, trained and sampled](../figures/families.png)",
        figure.caption(name, settings, families),
        tables.scores_caption(name, settings),
        tables.scores_markdown(tables.score_table(families)),
    ]
    for family, value in families.items():
        rows = [tables.check_cells(check) for check in value["checks"]]
        parts += [
            f"## {value['title']}",
            f"`src/mlegfn/families/{family}.py`. P_F: {value['policies'][0]}. P_B: {value['policies'][1]}. "
            f"Deterministic: {tables.DETERMINISTIC[value['deterministic']]}. Objective: {value['objective']}. Trained on: "
            f"{value['data']}.",
            value["about"],
            tables.markdown(rows, ["what was checked", "measured disagreement", "tolerance"], right=(1, 2)),
        ]
    return "\n\n".join(parts) + "\n"
