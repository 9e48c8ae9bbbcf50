"""What `snakemake --report` shows of a scale: which outputs, in which category, under which caption.

A caption says what the papers claim, from claims.yaml and claims-gallery.yaml, and what the verdicts say of it here.
ITEMS is the only list, but for the stations of the gallery, which their files title; an output of a new kind of figure
or table is shown all the same, under its file's name.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from mlegfn import gallery
from mlegfn.artifacts import write_text
from mlegfn.errors import UserError
from mlegfn.yaml_file import read_yaml

CAPTIONS = Path(".snakemake", "captions")
# Folder below results/<scale> → category, and which of the formats that an item has.
SHOWN = {
    "figures": ("Figures", ".png"),
    "tables": ("Tables", ".csv"),
    "report": ("Verdicts and pages", ".md"),
}
TESTED = ("reproduced", "not reproduced")


class Item(NamedTuple):
    """Its title, and how the names begin of the claims that it bears on."""

    title: str
    claims: tuple[str, ...] = ()


IMAGES = ("figure1", "simple-", "baseline-", "vlb-")
PLANAR = ("figure2", "planar-")
ITEMS = {
    "figures/figure1": Item("Figure 1: test NLL from every checkpoint, against the baseline's", IMAGES),
    "figures/figure2": Item("Figure 2: seven planar problems, the data above MLE-GFN's samples", PLANAR),
    "figures/figure3": Item("Figure 3: trajectories from noise to data, and samples"),
    "figures/families": Item("Every model family as a GFlowNet, trained and sampled"),
    "figures/discrete": Item("Planar problems as bits: data and samples", ("discrete-",)),
    "figures/divergences-curves": Item(
        "Learning curves of every objective on every task",
        ("divergences-sets", "divergences-seq", "divergences-phyl", "divergences-speed"),
    ),
    "figures/divergences-variance": Item("Covariance of the gradients, by control variate", ("variance-",)),
    "figures/divergences-banana": Item("Densities learned on the banana", ("divergences-banana",)),
    "figures/divergences-mixture": Item("Densities learned on the mixture", ("divergences-mixture",)),
    "figures/divergences-alpha": Item("The effect of α"),
    "tables/nll": Item("Test NLL of every checkpoint and arm", IMAGES),
    "tables/paired": Item("NLL differences, paired by seed and image", IMAGES),
    "tables/planar": Item("NLL and MMD on the planar problems", PLANAR),
    "tables/quality": Item("Sample quality beside its floor"),
    "tables/table1": Item("Table 1: each family's objective as a GFlowNet objective, measured"),
    "tables/families": Item("Every family's score after training"),
    "tables/discrete": Item("NLL and MMD on the planar problems as bits, beside EB-GFN's", ("discrete-",)),
    "tables/divergences": Item("Every objective on every task, beside the paper's", ("divergences-",)),
    "tables/divergences-gradients": Item("Covariance of the gradients", ("variance-",)),
    "report/verdict": Item("Verdicts on the first paper's claims", (*IMAGES, *PLANAR)),
    "report/families": Item("A page on every family"),
    "report/discrete": Item("Verdicts on the planar problems as bits", ("discrete-",)),
    "report/divergences": Item("Verdicts on the second paper's claims", ("divergences-", "variance-")),
    "report/divergences-objectives": Item("Which objective to use"),
    "report/gallery": Item("Verdicts on the stations of the lecture notes"),
}
GALLERY = "gallery-"  # the figures and tables of the stations, each titled by its file


def item_of(key):
    """The ``Item`` of ``figures/figure1``: a station's is titled by its file, and claims begin with its name."""
    stem = key.split("/")[1]
    if key not in ITEMS and stem.startswith(GALLERY):
        name = stem.removeprefix(GALLERY)
        title, _ = gallery.titles().get(name, (stem, ""))
        return Item(title, (f"{name}-",))
    return ITEMS.get(key, Item(stem))


class Report:
    """The marks of a scale's outputs. ``write`` its captions before Snakemake reads them."""

    def __init__(self, scale):
        self.scale = scale
        self.root = Path("results", scale)
        self.captions = CAPTIONS.absolute() / scale

    def key(self, path):
        """``figures/figure1`` where the report shows the output ``path``, else None."""
        path = Path(path)
        if path.parent.parent == self.root and path.suffix == SHOWN.get(path.parent.name, (None, None))[1]:
            return f"{path.parent.name}/{path.stem}"
        return None

    def mark(self, path):
        """``path`` as an output in the Snakefile, marked for the report if it belongs there."""
        from snakemake.io import report

        if (key := self.key(path)) is None:
            return path
        kind, stem = key.split("/")
        title = item_of(key).title
        caption = self.captions / kind / f"{stem}.rst"
        labels = {"result": title, "file": Path(path).name}
        return report(path, caption=str(caption), category=SHOWN[kind][0], labels=labels)

    @property
    def description(self):
        """The file with the report's first page."""
        return str(self.captions / "description.rst")

    def write(self, outputs):
        """Write the captions of ``outputs``, and the first page."""
        claims, verdicts = self.claims(), self.verdicts()
        tested = {name: claim for name, claim in claims.items() if verdicts.get(name) in TESTED}
        pages = {
            "description": [
                f"mlegfn, scale {self.scale}",
                "Figures, tables and verdicts of one scale. A verdict is computed from the metrics; claims.yaml "
                f"says by which test. Of {len(claims)} claims, {len(tested)} are tested at this scale:",
                *lines(tested, verdicts),
            ]
        }
        for key in filter(None, map(self.key, outputs)):
            item = item_of(key)
            about = {name: claim for name, claim in claims.items() if name.startswith(item.claims)}
            pages[key] = [item.title, *lines(about, verdicts)]
        for name, (title, *paragraphs) in pages.items():
            text = "\n\n".join([f"**{quoted(title)}**", *paragraphs]) + "\n"
            path = self.captions / f"{name}.rst"
            if not path.is_file() or path.read_text() != text:
                write_text(path, text)

    def claims(self):
        """claims.yaml and claims-gallery.yaml as they stand; a broken one has none: that is a verdict's stage to say."""
        found = {}
        for path in ("claims.yaml", "claims-gallery.yaml"):
            try:
                read = read_yaml(path)
            except UserError:
                continue
            found |= read if isinstance(read, dict) else {}
        return {
            name: claim
            for name, claim in found.items()
            if isinstance(name, str)
            and isinstance(claim, dict)
            and {"claim", "paper", "source"} <= set(claim)
        }

    def verdicts(self):
        """``{claim: verdict}`` of this scale, as far as there are any."""
        found = {}
        for path in sorted(self.root.glob("report/*.json")):
            try:
                found |= {each["id"]: each["verdict"] for each in json.loads(path.read_text())["claims"]}
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    def adapt(self, producers):
        """Let this process's Snakemake know of runs that it has no records of, as after `make restore`."""
        from snakemake.persistence import PersistenceBase

        own = PersistenceBase.metadata
        PersistenceBase.metadata = lambda there, path: (
            own(there, path) or self.metadata(producers.get(str(path)))
        )

    def metadata(self, name):
        """What Snakemake's own record would say of the run of the stage ``name``, by its provenance; None without.

        A whole MetadataRecord, as Snakemake asks it for more than the report does when it looks what has to run.
        """
        from snakemake.persistence import MetadataRecord

        try:
            record = json.loads((self.root / "provenance" / f"{name}.json").read_text())
            start = datetime.fromisoformat(record["started"]).timestamp()
            return MetadataRecord(rule=name, starttime=start, endtime=start + record["wall_s"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def lines(claims, verdicts):
    """A list of claims, each with its source, what the paper says, and the verdict if there is one."""
    found = []
    for name, claim in claims.items():
        said = str(claim["paper"])
        said = (
            said if said.startswith("(") else f"({claim['source']}: {said})"
        )  # in brackets: a remark of ours
        verdict = f": **{quoted(verdicts[name])}**" if name in verdicts else ""
        found.append(f"- {quoted(claim['claim'])} {quoted(said)}{verdict}")
    return found


def quoted(text):
    """``text`` as it stands, for reStructuredText in a Jinja template."""
    escaped = "".join(f"\\{c}" if c in "\\*`|_<>[]" else c for c in " ".join(str(text).split()))
    return f"{{% raw %}}{escaped}{{% endraw %}}"
