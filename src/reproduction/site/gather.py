"""Results of every scale → what the template shows: plain dictionaries, nothing of it looked up in the network."""

import hashlib
from pathlib import Path

from mlegfn.artifacts import read_json
from reproduction import params
from reproduction.site import alts, artifacts, charts, frames, markup, readings, verdicts
from reproduction.site.records import Records
from reproduction.site.sections import SECTIONS

__all__ = ["gather"]


def gather():
    """Everything that the page shows; broken settings, claims or metrics are a UserError."""
    return Site().everything()


class Site:
    """What is gathered on the way: the records of the stages that are mentioned, charts, pictures already shown."""

    def __init__(self):
        self.params, self.records = params.load(), Records()
        self.scales = artifacts.scales(self.params)
        self.charts, self.first_scales = {}, {}
        self.tests = verdicts.tests()
        self.verdicts = [row for scale in self.scales for row in verdicts.of_scale(scale, self.records)]

    def everything(self):
        sections = [self._section(section) for section in SECTIONS]
        shown = self.records.shown
        return {
            "outcome": [markup.code(text) for text in readings.outcome(self.verdicts)],
            "verdicts": sorted(self.verdicts, key=lambda row: row["verdict"] not in readings.TESTED),
            "choices": {
                key: list(dict.fromkeys(row[key] for row in self.verdicts)) for key in ("scale", "paper_id")
            },
            "sections": sections,
            "scales": [self._scale(scale) for scale in self.scales],
            "records": [shown[stage] for stage in sorted(shown)],
            "charts": self.charts,
        }

    def _block(self, experiment, scale):
        """The settings of an experiment at a scale; None where params.yaml has none."""
        return getattr(self.params, experiment).get(scale)

    def _section(self, section):
        drawn = [scale for scale in self.scales if any(figure.picture(scale) for figure in section.figures)]
        missing = [
            scale
            for scale in self.scales
            if scale not in drawn
            and any(self._block(experiment, scale) is not None for experiment in section.experiments)
        ]
        return {
            "id": section.id,
            "title": markup.code(section.title),
            "short": section.short,
            "lead": markup.code(section.lead),
            "figures": [self._figure(figure, drawn) for figure in section.figures],
            "tables": [self._table(table, drawn) for table in section.tables],
            "missing": [
                {
                    **self._command(scale),
                    "former": any(artifacts.former(scale, e) for e in section.experiments),
                }
                for scale in missing
            ],
        }

    def _figure(self, figure, scales):
        claimed = {}
        for row in self.verdicts:
            test = self.tests.get((row["experiment"], row["id"]))
            if test is None or not figure.has(row["experiment"], test):
                continue
            claim = claimed.setdefault(
                row["id"],
                {
                    "claim": markup.code(row["claim"]),
                    "paper": markup.code(readings.sentence(row["paper"])),
                    "same_as": markup.code(row["same_as"] or ""),
                    "origin": row["origin"],
                    "source": row["source"],
                    "ours": row["paper"].startswith("("),
                    "rows": [],
                },
            )
            if row["verdict"] in readings.TESTED:
                claim["rows"].append(row)
        return {
            "id": figure.id,
            "title": figure.title,
            "paper": markup.code(figure.paper),
            "claims": list(claimed.values()),
            "scales": [self._at(figure, scale) for scale in scales if figure.picture(scale)],
        }

    def _at(self, figure, scale):
        """A figure at one scale."""
        kind, content = figure.picture(scale)
        same = self.first_scales.setdefault(hashlib.sha256(content).hexdigest(), scale)
        caption = figure.caption(scale)
        with artifacts.written(caption):
            prose, tables = (
                markup.split(caption.read_text(encoding="utf-8")) if caption.is_file() else ([], [])
            )
        with artifacts.written(artifacts.folder(scale, figure.experiment)):
            return {
                "scale": scale,
                "stage": self.records.stage_of(caption.with_suffix(f".{kind}")),
                "id": f"{figure.id}-{scale}",
                "same": same if same != scale else None,
                "image": frames.uri(content, kind),
                "alt": alts.of(figure, scale, self._block(figure.experiment, scale)),
                "caption": prose,
                "tables": tables,
                "charts": [self._chart(name, scale) for name in figure.charts if name != "slider"],
                "slider": self._slider(scale) if "slider" in figure.charts else None,
                "measured": self.records.measured(scale, figure.experiment),
            }

    def _chart(self, name, scale):
        """An interactive chart; its specification goes to ``self.charts``, under the id that stands in the page."""
        chart = {"nll": charts.nll, "terms": charts.terms, "curves": charts.curves}[name](scale)
        key = f"{name}-{scale}"
        self.charts[key] = chart.pop("spec")
        return {**chart, "id": key}

    def _slider(self, scale):
        settings, folder = self._block("images", scale), artifacts.folder(scale, "images")
        baseline = next((folder / "metrics" / "nll" / "baseline").glob("*-*.json"), None)
        if settings is None or baseline is None:
            return None
        slider = frames.read(scale, settings, read_json(baseline)["dims"])
        states = str(folder / "samples" / "trajectories.safetensors")
        return slider and {**slider, "id": f"slider-{scale}", "states": states}

    def _table(self, table, scales):
        shown = []
        for scale in scales:
            path = table.path(scale)
            if not path.is_file():
                continue
            with artifacts.written(path):
                prose, tables = markup.split(path.read_text(encoding="utf-8").split("\n![")[0])
            shown.append(
                {
                    "scale": scale,
                    "stage": self.records.stage_of(path),
                    "path": str(path),
                    "id": table.id(scale),
                    "prose": prose,
                    "tables": tables,
                }
            )
        return {"title": table.title, "scales": shown}

    def _scale(self, scale):
        sections = [
            section.short for section in SECTIONS if any(figure.picture(scale) for figure in section.figures)
        ]
        return {
            **self._command(scale),
            "images": _images(self._block("images", scale)),
            "sections": sections,
            "recorded": self.records.has_scale(scale),
        }

    def _command(self, scale):
        images = self._block("images", scale)
        known = any(self._block(experiment, scale) is not None for experiment in artifacts.EXPERIMENTS)
        return {
            "name": scale,
            "command": f"make reproduce SCALE={scale}" if known else None,
            "gpu": images is not None and images.machine.accelerator == "gpu",
        }


def _images(settings):
    """What a scale trains on, in a few words; ``settings``: the block of its images, or None."""
    if settings is None:
        return "no images"
    source = settings.data.source if settings.data.path is None else Path(settings.data.path).name
    return f"{source}, T = {settings.diffusion.timesteps}"
