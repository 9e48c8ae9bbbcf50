"""The picture of the stages in README, from dvc.yaml and graph.json: `python -m mlegfn.report.dag [SCALE]`."""

import sys
from collections import Counter

from mlegfn.pipeline.engine import read

OUT = "docs/dag.svg"


def kinds(pipeline):
    """({stage kind: how many}, {(kind, kind that reads it)}) of a Pipeline."""
    kind = {name: name.split("@")[0] for name in pipeline.stages}
    edges = {(kind[a], kind[b]) for b, before in pipeline.upstream.items() for a in before}
    return Counter(kind.values()), edges


def needed(edges):
    """``edges`` without a kind's chain on itself and without those that follow from the others."""
    edges = {(a, b) for a, b in edges if a != b}
    after = {a: {b for x, b in edges if x == a} for a, _ in edges}

    def reach(kind):
        return {c for b in after.get(kind, ()) for c in {b} | reach(b)}

    return {(a, b) for a, b in edges if not any(b in reach(c) for c in after[a] - {b})}


def columns(counts, edges):
    """Kind → column: right of all that it reads, and as far right as those that read it allow."""
    place = dict.fromkeys(counts, 0)
    for _ in counts:
        for before, after in edges:
            place[after] = max(place[after], place[before] + 1)
    for _ in counts:
        for kind in counts:
            readers = [place[after] for before, after in edges if before == kind]
            place[kind] = min(readers) - 1 if readers else place[kind]
    return place


def draw(counts, edges, scale):
    """A matplotlib figure of the kinds, left to right."""
    from matplotlib import pyplot

    short = needed(edges)
    place = columns(counts, short)
    rows = {}
    for kind in counts:
        rows.setdefault(place[kind], []).append(kind)
    spot = {
        kind: (2.1 * x, (len(members) - 1) / 2 - y)
        for x, members in rows.items()
        for y, kind in enumerate(members)
    }
    figure, axes = pyplot.subplots(figsize=(10, 2.8))
    for before, after in sorted(short):
        (x0, y0), (x1, y1) = spot[before], spot[after]
        axes.annotate("", (x1 - 0.7, y1), (x0 + 0.7, y0), arrowprops={"arrowstyle": "->", "color": "0.45"})
    for kind, (x, y) in spot.items():
        again = " (a chain)" if (kind, kind) in edges else ""
        label = f"{kind}\n×{counts[kind]}{again}" if counts[kind] > 1 else kind
        axes.text(
            x,
            y,
            label,
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.45", "fc": "#eef3fb", "ec": "0.4"},
        )
    axes.set(
        xlim=(-1, max(x for x, _ in spot.values()) + 1),
        ylim=(min(y for _, y in spot.values()) - 0.8, max(y for _, y in spot.values()) + 0.8),
    )
    axes.set_title(f"stages of the scale {scale}", loc="left", fontsize=10)
    axes.axis("off")
    return figure


def main():
    import matplotlib

    matplotlib.use("Agg")
    scale = sys.argv[1] if len(sys.argv) > 1 else "digits"
    matplotlib.rcParams["svg.hashsalt"] = "mlegfn"
    draw(*kinds(read(scale)), scale).savefig(
        OUT, metadata={"Date": None, "Creator": None}, bbox_inches="tight"
    )


if __name__ == "__main__":
    main()
