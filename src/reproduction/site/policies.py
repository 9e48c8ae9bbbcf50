"""What docs/consistency.md quotes of the arms of P_B: figures and a table, functions of the root and the scales."""

import csv

__all__ = ["figure", "table"]


def figure(root, scales, name, what):
    """The figure ``name`` of the first of ``scales`` that has it, with its caption; links as seen from docs. None without one.

    what: what it shows, for those who do not see it.
    """
    for scale in scales:
        folder = f"results/{scale}/consistency/figures"
        if (root / folder / f"{name}.md").is_file():
            caption = (root / folder / f"{name}.md").read_text(encoding="utf-8").strip()
            return f"![{what}, at the scale {scale}](../{folder}/{name}.png)\n\n{caption}"


def table(root, scales):
    """NLL minus that of `uniform_single`, a row a problem, of the first of ``scales`` that has it; None without one."""
    for scale in scales:
        folder = f"results/{scale}/consistency/tables"
        if (root / folder / "policy.csv").is_file():
            with open(root / folder / "policy.csv", encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if float(row["nll_change"])]
            arms = list(dict.fromkeys(row["arm"] for row in rows))
            lines = [f"| ΔNLL, nats | {' | '.join(arms)} |", f"|:--|{'--:|' * len(arms)}"]
            for problem in dict.fromkeys(row["problem"] for row in rows):
                values = {row["arm"]: row["nll_change"] for row in rows if row["problem"] == problem}
                shown = [f"{float(values[arm]):+.4f}".replace("-", "−") for arm in arms]
                lines.append(f"| {problem} | {' | '.join(shown)} |")
            return "\n".join([*lines, "", f"Every arm in full: [table](../{folder}/policy.md)."])
