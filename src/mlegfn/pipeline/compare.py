"""`mlegfn compare`: metrics, verdicts and figures of a scale at two revisions, side by side.

`dvc metrics diff` does not do it: to it a list is one value, and our NLLs stand in lists of runs and of points, so
that it prints two lists of hundreds of numbers; it knows no tables, no verdicts and no figures; and it parses
dvc.yaml and dvc.lock of both revisions first, which takes it 11 s of CPU time.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from mlegfn.artifacts import write_text
from mlegfn.errors import UserError
from mlegfn.pipeline import differences, revisions

SHOWN = 12  # changed numbers of one file in the terminal; the page has all


@dataclass
class Comparison:
    """``metrics`` and ``tables``: {path: rows of ``differences.changed``}; ``verdicts``: dicts; ``figures``: {stem:
    (path before, path after)}, an image or None each; ``added``, ``removed``: paths; ``same``: how many files are."""

    scale: str
    one: revisions.Revision
    other: revisions.Revision
    metrics: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)
    verdicts: list = field(default_factory=list)
    figures: dict = field(default_factory=dict)
    added: list = field(default_factory=list)
    removed: list = field(default_factory=list)
    same: int = 0


def compare(scale, first, second=None, html=None):
    """Print how revision ``second`` (None: the checkout) differs from ``first``; ``html``: a page, too. Returns 0."""
    found = collect(revisions.at(scale, first), revisions.at(scale, second), scale)
    print("\n".join(text(found)))
    if html is not None:
        from mlegfn.pipeline.compare_page import page

        try:
            write_text(html, page(found))
        except OSError as error:
            raise UserError(f"{html}: cannot be written ({error.strerror}); name another file") from None
        print(f"\n{html}: written")
    return 0


def collect(one, other, scale):
    """The Comparison of two Revisions."""
    found = Comparison(scale, one, other)
    paths = sorted({*one.files, *other.files})
    differing = [path for path in paths if one.files.get(path) != other.files.get(path)]
    found.same = len(paths) - len(differing)
    kind_of = {path: Path(path).parts[2] for path in differing}
    found.added = [p for p in differing if p not in one.files and kind_of[p] != "figures"]
    found.removed = [p for p in differing if p not in other.files and kind_of[p] != "figures"]
    numbers = [path for path in differing if path.endswith((".json", ".csv")) and kind_of[path] != "figures"]
    before, after = one.read(numbers), other.read(numbers)
    for path in numbers:
        if kind_of[path] == "report":
            found.verdicts += verdicts(path, before.get(path, b""), after.get(path, b""))
        elif path in before and path in after:
            rows = differences.changed(path, before[path], after[path])
            (found.metrics if kind_of[path] == "metrics" else found.tables)[path] = rows
    for path in differing:
        if kind_of[path] == "figures":
            stem = str(Path(path).with_suffix(""))
            found.figures[stem] = tuple(
                f"{stem}.png" if f"{stem}.png" in r.files else None for r in (one, other)
            )
    return found


def verdicts(path, before, after):
    """What changed of the claims in two contents of a report: dicts of path, claim, and [before, after] of verdict and
    text (the estimate with its interval)."""
    old, new = claims(before), claims(after)
    found = []
    for key in dict.fromkeys([*old, *new]):
        rows = [each.get(key) for each in (old, new)]
        words = [row["verdict"] if row else "no such claim" for row in rows]
        texts = [estimate(row) for row in rows]
        if words[0] != words[1] or texts[0] != texts[1]:
            claim = next(row["claim"] for row in reversed(rows) if row)
            found.append({"path": path, "id": key, "claim": claim, "verdict": words, "text": texts})
    return found


def claims(content):
    """{id: claim} of a report's bytes; none if it is no report."""
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    rows = value.get("claims", []) if isinstance(value, dict) else []
    return {
        row["id"]: row for row in rows if isinstance(row, dict) and {"id", "claim", "verdict"} <= set(row)
    }


def estimate(row):
    """``-0.047 [-0.055, -0.039] bits/dim, checkpoint 1500``; "" of a claim without one."""
    if not row or row.get("estimate") is None:
        return ""
    numbers = [shown(value) for value in (row["estimate"], *(row.get("interval") or ()))]
    interval = f" [{', '.join(numbers[1:])}]" if numbers[1:] else ""
    where = f", {row['where']}" if row.get("where") else ""
    return f"{numbers[0]}{interval} {row.get('unit', '')}{where}"


def shown(value):
    """A value as one reads it."""
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)


def text(found):
    """The lines for the terminal."""
    lines = [f"results/{found.scale}", f"  from  {found.one.title}", f"  to    {found.other.title}"]
    if not (found.metrics or found.tables or found.verdicts or found.figures or found.added or found.removed):
        return [*lines, f"  no difference in {found.same} files"]
    turned = [row for row in found.verdicts if row["verdict"][0] != row["verdict"][1]]
    lines += [
        "",
        f"Verdicts: {len(turned)} changed, the numbers behind {len(found.verdicts) - len(turned)} others",
    ]
    for row in [*turned, *(row for row in found.verdicts if row not in turned)]:
        before, after = row["verdict"]
        lines.append(
            f"  {row['id']}: {before} -> {after}" if before != after else f"  {row['id']}: still {after}"
        )
        lines += [f"    {each or 'no estimate'}" for each in row["text"]] if any(row["text"]) else []
    for title, files in (("Metrics", found.metrics), ("Tables", found.tables)):
        lines += ["", f"{title}: {len(files)} changed"]
        for path, rows in files.items():
            lines.append(f"  {path}" + ("" if rows else ": another text, equal values"))
            for key, before, after, by in rows[:SHOWN]:
                lines.append(f"    {key}: {in_words(before, after, by)}")
            if len(rows) > SHOWN:
                lines.append(f"    and {len(rows) - SHOWN} more (--html FILE has all)")
    lines += ["", f"Figures: {len(found.figures)} changed", *map(figure, found.figures.items())]
    for title, paths in (("Only in the second", found.added), ("Only in the first", found.removed)):
        if paths:
            lines += ["", f"{title}: {len(paths)} file(s)", *(f"  {path}" for path in paths[:SHOWN])]
            lines += [f"  and {len(paths) - SHOWN} more"] if len(paths) > SHOWN else []
    return [*lines, "", f"Equal: {found.same} files"]


def figure(item):
    """The line of a figure that changed."""
    stem, (before, after) = item
    return f"  {stem}" + (" (new)" if not before else " (gone)" if not after else "")


def in_words(before, after, by):
    """``2.6 -> 2.5 (-0.1)``."""
    return f"{shown(before)} -> {shown(after)}{change(by)}"


def change(by):
    """A difference in brackets, "" where there is none."""
    if by is None:
        return ""
    return f" ({by:+.4g})" if differences.numeric(by) else f" ({by})"
