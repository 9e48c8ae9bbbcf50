"""The gallery as a page of docs: a section a station, from what it measured and what was decided of it."""

from pathlib import Path

from mlegfn.artifacts import read_json
from reproduction import gallery
from reproduction.gallery.report import measured

SCALE = "gallery"


def sections(root="."):
    """Markdown of every station that has results; links as seen from docs."""
    results = Path(root, "results")
    folder = results / SCALE / "gallery"
    report = folder / "report" / "verdict.json"
    claims = read_json(report)["claims"] if report.is_file() else []
    written = [
        section(station, notes, results, claims)
        for station, (_, notes) in gallery.titles().items()
        if (folder / "metrics" / f"{station}.json").is_file()
    ]
    return "\n\n".join(written) or f"*Not measured yet: the scale `{SCALE}` has no results here.*"


def section(station, notes, results, claims):
    """One station: its paragraph, its figure with caption, and its verdicts."""
    contents, folder = measured.of_station(SCALE, station, results), results / SCALE / "gallery"
    caption = (folder / "figures" / f"{station}.md").read_text(encoding="utf-8").strip()
    place, title = f"../results/{SCALE}/gallery", contents["title"]
    own = [row for row in claims if row["id"].startswith(f"{station}-")]
    parts = [
        f"## {title}",
        f"The notes: {notes}. `src/reproduction/gallery/stations/{station}.py`; "
        f"[numbers]({place}/tables/{station}.md).",
        contents["about"],
        f"![{title}]({place}/figures/{station}.png)",
        f"![{title}, moving]({place}/figures/{station}.webp)"
        if (folder / "figures" / f"{station}.webp").is_file()
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
