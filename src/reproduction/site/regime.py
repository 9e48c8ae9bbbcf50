"""What docs/consistency.md quotes of the paper's regime, fixed variances and converged checkpoints: functions of the root."""

import json

from reproduction.images.report import alignment
from reproduction.site.readings import interval, number, unit_of
from reproduction.verdicts.evidence import REPRODUCED

__all__ = ["alignments", "first", "verdicts"]

SCALES = ("fixed_t50", "fixed_t250", "fixed_t1000")
CLAIMS = {
    "reweighted-at-equal-steps": "`simple_tbc` less `reweighted`",
    "simple-at-equal-steps": "`simple_tbc` less `simple`",
    "vlb-at-equal-steps": "`vlb_tbc` less `vlb`",
    "log-p-of-the-paper-s-arm": "log p: `simple_tbc` less `simple`",
}


def first(root):
    """A paragraph for the top of the page if the paper's arm beats its control somewhere in its regime; else nothing."""
    scales = [
        f"`{scale}`" for scale, rows in _claims(root) if rows[next(iter(CLAIMS))]["verdict"] == REPRODUCED
    ]
    if not scales:
        return ""
    return (
        "**In the paper's regime (fixed variances, converged checkpoints) its arm beats the control of a gradient of the bound "
        f"of equal length, at {', '.join(scales)}: see the section on the paper's regime.**"
    )


def verdicts(root):
    """A row for each scale: of each comparison the worst checkpoint, and the claim's verdict; None without results."""
    lines = []
    for scale, rows in _claims(root):
        cells = [f"`{scale}`"]
        for name in CLAIMS:
            row = rows.get(name, {"estimate": None})
            measured = row["estimate"] is not None
            cells.append(
                f"{number(row['estimate'])} {interval(row)} {unit_of(row)}: **{row['verdict']}**"
                if measured
                else "–"
            )
        lines.append(f"| {' | '.join(cells)} |")
    if not lines:
        return None
    return "\n".join([f"| scale | {' | '.join(CLAIMS.values())} |", "|:--|:--|:--|:--|:--|", *lines])


def alignments(root):
    """A row for each scale and checkpoint: for each kind of variances ∇N·∇V over ‖∇N‖, and the cosine; None without results."""
    lines, kinds = [], []
    for scale in SCALES:
        files = sorted((root / "results" / scale / "images/metrics/alignment").glob("*.json"))
        table = alignment.frame([json.loads(file.read_text(encoding="utf-8")) for file in files])
        kinds = kinds or list(dict.fromkeys(table.get("variances", ())))
        for step, rows in table.groupby("checkpoint") if files else ():
            cells = [str(rows["timesteps"].iloc[0]), f"{step:,}"]
            for row in rows.to_dict("records"):
                cells += [alignment.plus_minus(row, "along", 1), alignment.plus_minus(row, "cosine", 2)]
            lines.append(f"| {' | '.join(cells)} |")
    if not lines:
        return None
    head = " | ".join(f"`{kind}`: ∇N·∇V/‖∇N‖ | cosine" for kind in kinds)
    return "\n".join([f"| T | checkpoint | {head} |", f"|--:|--:|{'--:|' * (2 * len(kinds))}", *lines])


def _claims(root):
    """(scale, {claim: its row}) of every scale that has verdicts."""
    for scale in SCALES:
        path = root / f"results/{scale}/images/report/verdict.json"
        if path.is_file():
            yield scale, {row["id"]: row for row in json.loads(path.read_text(encoding="utf-8"))["claims"]}
