"""The gallery as a page of docs: a section a station, from what it measured and what was decided of it."""

from pathlib import Path

from mlegfn import gallery
from mlegfn.artifacts import read_json
from mlegfn.report.gallery import measured

SCALE = "gallery"


def sections(root="."):
    """Markdown of every station that has results; links as seen from docs."""
    results = Path(root, "results")
    report = results / SCALE / "report" / "gallery.json"
    claims = read_json(report)["claims"] if report.is_file() else []
    found = [
        section(station, notes, results, claims)
        for station, (_, notes) in gallery.titles().items()
        if (results / SCALE / "metrics" / "gallery" / f"{station}.json").is_file()
    ]
    return "\n\n".join(found) or f"*Not measured yet: the scale `{SCALE}` has no results here.*"


def section(station, notes, results, claims):
    """One station: its paragraph, its figure with caption, and its verdicts."""
    found = measured.of_station(SCALE, station, results)
    caption = (results / SCALE / "figures" / f"gallery-{station}.md").read_text(encoding="utf-8").strip()
    place = f"../results/{SCALE}"
    own = [row for row in claims if row["id"].startswith(f"{station}-")]
    parts = [
        f"## {found['title']}",
        f"The notes: {notes}. `src/mlegfn/gallery/{station}.py`; [numbers]({place}/tables/gallery-{station}.md).",
        found["about"],
        f"![{found['title']}]({place}/figures/gallery-{station}.png)",
        f"![{found['title']}, moving]({place}/figures/gallery-{station}.webp)"
        if (results / SCALE / "figures" / f"gallery-{station}.webp").is_file()
        else "",
        caption,
        "\n".join(f"- {row['claim']}: **{row['verdict']}**{interval(row)}" for row in own),
    ]
    return "\n\n".join(part for part in parts if part)


def interval(row):
    """What decided a verdict: the estimate minus its limit, with its interval."""
    if row["estimate"] is None:
        return ""
    numbers = [f"{value:+.3g}".replace("-", "−") for value in (row["estimate"], *row["interval"])]
    return f" ({numbers[0]} [{numbers[1]}, {numbers[2]}]{' ' + row['unit'] if row['unit'] else ''})"
