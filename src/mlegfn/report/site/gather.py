"""Results of every scale → what the template shows: plain dictionaries, nothing of it looked up in the network."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

from mlegfn import config, graph
from mlegfn.pipeline import engine, recorded
from mlegfn.report.site import alts, charts, files, frames, markup, readings, records, verdicts
from mlegfn.report.site.figures import SECTIONS


def gather():
    """Everything that the page shows; broken settings, claims or metrics are a UserError."""
    return Site().everything()


class Site:
    """What is gathered on the way: the records of the stages that are mentioned, charts, pictures already shown."""

    def __init__(self):
        self.params = config.load()
        graph.check(self.params)
        self.stages, self.lock = engine.read().stages, recorded.Lock()
        self.records, self.charts, self.shown, self._metrics, self._measured = {}, {}, {}, {}, {}
        self.tests = verdicts.tests()
        self.verdicts = [
            row
            for name in self.params.scales
            for row in verdicts.of_scale(name, self.stages, self._record, self._measured_at)
        ]

    def everything(self):
        sections = [self._section(section) for section in SECTIONS]
        return {
            "outcome": [markup.code(text) for text in readings.outcome(self.verdicts)],
            "verdicts": sorted(self.verdicts, key=lambda row: row["verdict"] not in readings.TESTED),
            "choices": {
                key: list(dict.fromkeys(row[key] for row in self.verdicts)) for key in ("scale", "paper_id")
            },
            "sections": sections,
            "scales": [self._scale(name) for name in self.params.scales],
            "records": [self.records[name] for name in sorted(self.records)],
            "charts": self.charts,
        }

    def _section(self, section):
        shown = [*section.figures, *section.tables]
        scales = [name for name in self.params.scales if any(each.at(name) in self.stages for each in shown)]
        there = [
            name for name in scales if any(files.picture(name, figure.name) for figure in section.figures)
        ]
        return {
            "id": section.id,
            "title": markup.code(section.title),
            "short": section.short,
            "lead": markup.code(section.lead),
            "figures": [self._figure(figure, there) for figure in section.figures],
            "tables": [self._tables(page, there) for page in section.tables],
            "missing": [self._missing(name) for name in scales if name not in there],
        }

    def _figure(self, figure, scales):
        rows = [row for row in self.verdicts if row["id"] in self.tests and figure.has(self.tests[row["id"]])]
        claimed = {}
        for row in rows:
            about = claimed.setdefault(
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
                about["rows"].append(row)
        return {
            "name": figure.name,
            "title": figure.title,
            "paper": markup.code(figure.paper),
            "claims": list(claimed.values()),
            "scales": [self._at(figure, scale) for scale in scales if files.picture(scale, figure.name)],
        }

    def _at(self, figure, scale):
        """A figure at one scale."""
        settings, stage = self.params.scales[scale], figure.at(scale)
        kind, content = files.picture(scale, figure.name)
        digest = hashlib.sha256(content).hexdigest()
        same = self.shown.setdefault(digest, scale)
        caption = Path("results", scale, "figures", f"{figure.name}.md")
        self._record(stage)
        with files.written_by(stage, caption):
            prose, tables = (
                markup.split(caption.read_text(encoding="utf-8")) if caption.is_file() else ([], [])
            )
        with files.written_by(stage, Path("results", scale)):
            alt = alts.of(figure, scale, settings, lambda: self._image_metrics(scale))
        return {
            "scale": scale,
            "stage": stage,
            "id": f"{figure.name}-{scale}",
            "same": same if same != scale else None,
            "image": frames.uri(content, kind),
            "alt": alt,
            "caption": prose,
            "tables": tables,
            "charts": [
                found for name in figure.charts if name != "slider" and (found := self._chart(name, scale))
            ],
            "slider": self._slider(scale) if "slider" in figure.charts else None,
            "measured": self._measured_at(scale),
        }

    def _chart(self, name, scale):
        """An interactive chart; its specification goes to ``self.charts``, under the id that stands in the page."""
        if name == "curves":
            from mlegfn.report import divergence_metrics

            block = self.params.scales[scale].divergences
            settings = SimpleNamespace(
                tasks=block.tasks.there(), gradients=block.gradients, alpha=block.alpha
            )
            drawn = charts.curves(divergence_metrics.Metrics(scale, settings))
        else:
            metrics = self._image_metrics(scale)
            drawn = charts.nll(metrics) if name == "nll" else charts.terms(metrics, files.terms(metrics))
        key = f"{name}-{scale}"
        self.charts[key] = drawn.pop("spec")
        return {**drawn, "id": key}

    def _slider(self, scale):
        settings = self.params.scales[scale]
        found = frames.read(scale, settings, self._image_metrics(scale).about["dims"])
        if found is None:
            return None
        path = f"results/{scale}/samples/trajectories.safetensors"
        return {**found, "id": f"slider-{scale}", "states": path}

    def _image_metrics(self, scale):
        """The scale's report.metrics.Metrics, or None where it has no images."""
        if scale not in self._metrics:
            from mlegfn.report.metrics import Metrics

            settings = self.params.scales[scale]
            whole = settings.has_images and settings.planar is not None
            self._metrics[scale] = Metrics(scale, settings) if whole else None
        return self._metrics[scale]

    def _tables(self, page, scales):
        found = []
        for scale in scales:
            path = Path("results", scale, page.path)
            if not path.is_file():
                continue
            self._record(page.at(scale))
            with files.written_by(page.at(scale), path):
                prose, tables = markup.split(path.read_text(encoding="utf-8").split("\n![")[0])
            found.append(
                {
                    "scale": scale,
                    "stage": page.at(scale),
                    "path": str(path),
                    "id": f"{path.stem}-{scale}",
                    "prose": prose,
                    "tables": tables,
                }
            )
        return {"title": page.title, "scales": found}

    def _scale(self, name):
        settings = self.params.scales[name]
        there = [
            section.short
            for section in SECTIONS
            if any(
                files.picture(name, figure.name) and figure.at(name) in self.stages
                for figure in section.figures
            )
        ]
        return {
            **self._missing(name),
            "images": _images(settings),
            "there": there,
            "measured": self._measured_at(name),
        }

    def _missing(self, name):
        return {
            "name": name,
            "command": f"make reproduce SCALE={name}",
            "gpu": self.params.scales[name].accelerator == "gpu",
        }

    def _record(self, stage):
        """The provenance of a stage as the page shows it, remembered for the section that lists them; or None."""
        if stage not in self.records:
            found = records.of_stage(stage, self.lock)
            if found is None:
                return None
            self.records[stage] = {**found, "device_text": records.device(found)}
        return self.records[stage]

    def _measured_at(self, scale):
        if scale not in self._measured:
            names = [name for name in self.stages if _scale_of(name, self.params.scales) == scale]
            self._measured[scale] = records.measured(scale, names, self.lock)
        return self._measured[scale]


def _scale_of(stage, scales):
    """The scale in a stage's name: the longest that fits, for `cifar10` begins `cifar10-cpu` too."""
    key = stage.partition("@")[2]
    return max((name for name in scales if key == name or key.startswith(f"{name}-")), key=len, default=None)


def _images(settings):
    """What a scale trains on, in a few words."""
    if not settings.has_images:
        return "no images"
    source = settings.data.source if settings.data.path is None else Path(settings.data.path).name
    return f"{source}, T = {settings.diffusion.timesteps}"
