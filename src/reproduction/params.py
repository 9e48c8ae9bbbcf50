"""params.yaml and the files of params/ as typed, validated settings.

DVC parses a file of settings once for each recorded stage that names it, so only lists and images stand in params.yaml, and
each other experiment has a file of its own.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from mlegfn.errors import UserError
from reproduction.bits.settings import Bits
from reproduction.consistency.settings import Consistency
from reproduction.divergences.settings import Divergences
from reproduction.families.settings import Families
from reproduction.gallery.settings import Gallery
from reproduction.images.settings import Images
from reproduction.planar.settings import Planar
from reproduction.settings.problems import Problem
from reproduction.settings.training import Arm
from reproduction.settings.types import Block, differ
from reproduction.settings.validation import rule, validate
from reproduction.settings.yaml_file import origins, read_yaml

__all__ = ["SEPARATE", "Params", "file_of", "load", "read"]

# Experiments whose blocks stand in params/<experiment>.yaml.
SEPARATE = ("planar", "bits", "consistency", "families", "divergences", "gallery")

# A scale's name is a part of stage names, which join their parts by hyphens, and of paths.
ScaleName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Scales = Annotated[list[ScaleName], Field(min_length=1)]
Item = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
ITEMS = ("arm", "problem", "family", "task", "station")  # what an entry of a list names beside its scale


class Run(Block):
    """One entry of a list that dvc.yaml loops over."""

    scale: ScaleName


class ArmRun(Run):
    arm: Arm


class ProblemRun(Run):
    problem: Problem


class NoisingRun(Run):
    problem: Problem | Literal["digits"]


class FamilyRun(Run):
    family: Item


class TaskRun(Run):
    task: Item


class StationRun(Run):
    images: ScaleName = Field(description="the scale whose images, data/<scale>, it reads")
    station: Item


class ReadingStationRun(StationRun):
    reads: Item = Field(description="the station that it goes on from")


def named_by_content(runs):
    """A key that is not made of its entry would name a stage that does something else."""
    for key, entry in runs.items():
        item = next((entry[word] for word in ITEMS if word in entry), None)
        if key != f"{entry.get('scale')}-{item}":
            return f"{key!r} must be called {entry.get('scale')}-{item}, after its scale and item"


def with_settings(scales, block, where):
    """The scales that dvc.yaml loops over and those that have settings must be the same."""
    if missing := [scale for scale in scales if scale not in block]:
        return f"names {missing[0]!r}, but {where} has no block {missing[0]!r}"
    if absent := [scale for scale in block if scale not in scales]:
        return f"lacks {absent[0]!r}, for which {where} has a block"
    return differ(scales)


def scales_are_there(runs, scales, where):
    """The scales of a list of runs and those that have settings must be the same."""
    for key, entry in runs.items():
        if entry["scale"] not in scales:
            return f"{key!r}: no scale {entry['scale']!r} in {where}"
    named = {entry["scale"] for entry in runs.values()}
    return next(
        (
            f"has no entry of the scale {scale!r}, for which {where} has a block"
            for scale in scales
            if scale not in named
        ),
        None,
    )


def runs_and_settings(runs, scales, blocks, where):
    """The items that dvc.yaml loops over and the blocks of settings must be the same."""
    named = {scale: [] for scale in scales}
    for key, entry in runs.items():
        item = next(entry[word] for word in ITEMS if word in entry)
        if entry["scale"] not in named:
            return f"{key!r}: no scale {entry['scale']!r} in {where}"
        if item not in blocks(entry["scale"]):
            return f"{key!r}, but {where}.{entry['scale']} has no block {item!r}"
        named[entry["scale"]].append(item)
    for scale, items in named.items():
        if absent := [item for item in blocks(scale) if item not in items]:
            return f"lacks {scale}-{absent[0]}, for which {where} has a block"
    return None


def arms_of(finetune):
    """The arms that a block ``finetune`` has settings of."""
    return [arm for arm in get_args(Arm) if finetune.get(arm) is not None]


class Params(Block):
    """The whole file: lists that dvc.yaml loops over, then the experiments by scale."""

    image_scales: Scales
    arm_runs: dict[str, ArmRun]
    alignment_scales: list[ScaleName]
    planar_scales: Scales
    planar_runs: dict[str, ProblemRun]
    bits_scales: Scales
    bits_runs: dict[str, ProblemRun]
    consistency_scales: Scales
    signed_runs: dict[str, ProblemRun]
    policy_runs: dict[str, ProblemRun]
    noising_runs: dict[str, NoisingRun]
    family_scales: Scales
    family_runs: dict[str, FamilyRun]
    divergence_scales: Scales
    divergence_runs: dict[str, TaskRun]
    gallery_scales: Scales
    station_runs: dict[str, StationRun]
    reading_station_runs: dict[str, ReadingStationRun]
    prior_runs: dict[str, StationRun]
    images: dict[ScaleName, Images]
    planar: dict[ScaleName, Planar]
    bits: dict[ScaleName, Bits]
    consistency: dict[ScaleName, Consistency]
    families: dict[ScaleName, Families]
    divergences: dict[ScaleName, Divergences]
    gallery: dict[ScaleName, Gallery]

    RUNS: ClassVar = {
        "images": ("arm_runs",),
        "planar": ("planar_runs",),
        "bits": ("bits_runs",),
        "consistency": ("signed_runs", "policy_runs", "noising_runs"),
        "families": ("family_runs",),
        "divergences": ("divergence_runs",),
        "gallery": ("station_runs", "reading_station_runs", "prior_runs"),
    }
    EXPERIMENTS: ClassVar = tuple(RUNS)

    image_scales_have_settings = rule("image_scales", "images")(lambda s, b: with_settings(s, b, "images"))
    planar_scales_have_settings = rule("planar_scales", "planar")(lambda s, b: with_settings(s, b, "planar"))
    bits_scales_have_settings = rule("bits_scales", "bits")(lambda s, b: with_settings(s, b, "bits"))
    consistency_scales_have_settings = rule("consistency_scales", "consistency")(
        lambda s, b: with_settings(s, b, "consistency")
    )
    family_scales_have_settings = rule("family_scales", "families")(
        lambda s, b: with_settings(s, b, "families")
    )
    divergence_scales_have_settings = rule("divergence_scales", "divergences")(
        lambda s, b: with_settings(s, b, "divergences")
    )
    gallery_scales_have_settings = rule("gallery_scales", "gallery")(
        lambda s, b: with_settings(s, b, "gallery")
    )

    arm_runs_are_named = rule("arm_runs")(named_by_content)
    planar_runs_are_named = rule("planar_runs")(named_by_content)
    bits_runs_are_named = rule("bits_runs")(named_by_content)
    signed_runs_are_named = rule("signed_runs")(named_by_content)
    policy_runs_are_named = rule("policy_runs")(named_by_content)
    noising_runs_are_named = rule("noising_runs")(named_by_content)
    family_runs_are_named = rule("family_runs")(named_by_content)
    divergence_runs_are_named = rule("divergence_runs")(named_by_content)
    station_runs_are_named = rule("station_runs")(named_by_content)
    reading_station_runs_are_named = rule("reading_station_runs")(named_by_content)
    prior_runs_are_named = rule("prior_runs")(named_by_content)

    planar_scales_are_run = rule("planar_runs", "planar")(
        lambda runs, block: scales_are_there(runs, block, "planar")
    )
    bits_scales_are_run = rule("bits_runs", "bits")(lambda runs, block: scales_are_there(runs, block, "bits"))
    consistency_scales_are_run = rule("signed_runs", "consistency")(
        lambda runs, block: scales_are_there(runs, block, "consistency")
    )
    policies_are_run = rule("policy_runs", "consistency")(
        lambda runs, block: scales_are_there(
            runs, [scale for scale in block if block[scale].get("policy")], "consistency.*.policy"
        )
    )

    noisings_are_run = rule("noising_runs", "consistency")(
        lambda runs, block: scales_are_there(
            runs, [scale for scale in block if block[scale].get("noising")], "consistency.*.noising"
        )
    )

    @rule("noising_runs", "consistency")
    def digits_have_settings(runs, block):
        for key, entry in runs.items():
            if entry["problem"] == "digits" and not block[entry["scale"]]["noising"].get("images"):
                return f"{key!r}, but consistency.{entry['scale']}.noising.images is null"

    @rule("alignment_scales", "images")
    def alignments_have_settings(scales, block):
        own = {scale: None for scale in block if block[scale].get("alignment")}
        return with_settings(scales, own, "images.*.alignment")

    @rule("arm_runs", "images")
    def arms_are_run(runs, block):
        return runs_and_settings(runs, block, lambda scale: arms_of(block[scale]["finetune"]), "images")

    @rule("family_runs", "families")
    def families_are_run(runs, block):
        return runs_and_settings(runs, block, lambda scale: block[scale]["settings"], "families")

    @rule("divergence_runs", "divergences")
    def tasks_are_run(runs, block):
        return runs_and_settings(runs, block, lambda scale: block[scale]["tasks"], "divergences")

    @rule("station_runs", "reading_station_runs", "prior_runs", "image_scales")
    def images_exist(first, second, third, scales):
        for key, entry in {**first, **second, **third}.items():
            if entry["images"] not in scales:
                return f"{key!r}: no images of {entry['images']!r}; image_scales has {', '.join(scales)}"

    @rule("station_runs", "reading_station_runs", "prior_runs", "gallery")
    def stations_are_run(first, second, third, block):
        return runs_and_settings(
            {**first, **second, **third},
            block,
            lambda scale: block[scale],
            "gallery",
        )

    @rule("reading_station_runs", "station_runs")
    def read_stations_are_there(reading, first):
        runs = {**first, **reading}
        for key, entry in reading.items():
            if entry["reads"] == entry["station"] or f"{entry['scale']}-{entry['reads']}" not in runs:
                return (
                    f"{key!r} reads {entry['reads']!r}, which no entry of the scale {entry['scale']!r} makes"
                )

    @property
    def scales(self):
        """Every scale that some experiment has, in the file's order."""
        return list(dict.fromkeys(scale for name in self.EXPERIMENTS for scale in getattr(self, name)))

    def check_scale(self, scale):
        """An unknown scale is a UserError that lists those there are."""
        if scale not in self.scales:
            raise UserError(f"params.yaml: no scale {scale!r}; there are {', '.join(self.scales)}")

    def block(self, experiment, scale):
        """The settings of an experiment at a scale; a missing one is a UserError."""
        blocks = getattr(self, experiment)
        if scale not in blocks:
            raise UserError(
                f"{file_of(experiment)}: {experiment}: no scale {scale!r}; there are {', '.join(blocks)}"
            )
        return blocks[scale]

    def runs(self, experiment, scale):
        """{item: its entry} of what dvc.yaml loops over for an experiment and scale: arms, problems, families, …

        An item of two lists has equal entries in both.
        """
        return {item: entry for name in self.RUNS[experiment] for item, entry in self._entries(name, scale)}

    def lists(self, experiment, scale):
        """{name of a list that dvc.yaml loops over: its items at a scale, in order}."""
        return {name: [item for item, _ in self._entries(name, scale)] for name in self.RUNS[experiment]}

    def items(self, experiment, scale):
        """The items that dvc.yaml loops over for an experiment and scale, in order, one list after the other."""
        return [item for listed in self.lists(experiment, scale).values() for item in listed]

    def _entries(self, name, scale):
        """(item, entry) of those of a list that belong to a scale."""
        for entry in getattr(self, name).values():
            if entry.scale == scale:
                yield next(value for key, value in entry if key in ITEMS), entry


def file_of(key, path="params.yaml"):
    """The file in which the setting or block ``key`` (dotted) of the settings ``path`` is written."""
    name = key.partition(".")[0]
    return str(Path(path).parent / "params" / f"{name}.yaml") if name in SEPARATE else str(path)


def read(path="params.yaml"):
    """All settings as plain values: ``path`` with the blocks of the files in ``params/`` beside it.

    A block that stands in ``path`` itself is taken from there, so that one file can hold everything.
    """
    raw = read_yaml(path)
    if isinstance(raw, dict):
        for name in [name for name in SEPARATE if name not in raw]:
            block = read_yaml(file_of(name, path))
            if not isinstance(block, dict) or set(block) != {name}:
                raise UserError(f"{file_of(name, path)}: expected one block, {name!r}; restore it from git")
            raw |= block
    return raw


def load(path="params.yaml"):
    """The settings of ``path`` and of ``params/`` beside it; every mistake at once in one UserError, a line for each key."""
    raw, own = read(path), read_yaml(path)
    separate = [] if not isinstance(own, dict) else [name for name in SEPARATE if name not in own]

    def file(keys):
        return file_of(str(keys[0]), path) if keys and keys[0] in separate else path

    def places():
        of_file = {name: origins(name) for name in {path, *(file_of(name, path) for name in separate)}}
        return lambda keys: (str(file(keys)), *of_file[file(keys)](keys))

    return validate(Params, raw, file, places)
