"""What every station of the lecture notes is: a title, a paragraph, and a function from settings to its results."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

__all__ = ["Inputs", "Quantity", "Result", "Station"]


@dataclass(frozen=True)
class Quantity:
    """A measured number: ``values``, one a seed, or a single one with its ``standard_error`` (of samples, images …).

    what: a phrase that can stand in a table, without a final stop; unit: "" for none.
    count: how many values the standard error is of, where they may be few; their interval is then Student's.
    """

    what: str
    values: list
    unit: str = ""
    standard_error: float | None = None
    count: int | None = None

    def as_json(self):
        known = {key: value for key, value in asdict(self).items() if key != "count" or value is not None}
        return {**known, "values": [float(value) for value in self.values]}


@dataclass
class Result:
    """What a station measured and made.

    quantities: {name: Quantity}, which claims/gallery.yaml speaks about and the station's table shows.
    details: what JSON can hold, for the figure and its caption; tensors: {name: Tensor}, for the figure, and the
    weights of models that other stations read. Nothing in either may depend on the time, the machine or a path.
    """

    quantities: dict
    details: dict = field(default_factory=dict)
    tensors: dict = field(default_factory=dict)


class Station:
    """A station. Its docstring is its paragraph on the report page: whole sentences, one formula at most.

    title; order: its place in the gallery; notes: which part of the lecture notes it is;
    reads: names of stations whose tensors it reads; trained_once: whether what is trained for its numbers is trained once,
    so that no interval over its seeds covers training. Each stands on a line of its own as a literal: ``gallery.titles``,
    ``gallery.reads`` and ``gallery.trained_once`` read them from the text.
    """

    title: str
    order: int
    notes: str
    reads = ()
    trained_once = False

    @classmethod
    def run(cls, settings, inputs):
        """``Result`` of ``settings``, the block of its name; ``inputs``: :class:`Inputs`."""
        raise NotImplementedError

    @classmethod
    def description(cls):
        return {
            "title": cls.title,
            "order": cls.order,
            "notes": cls.notes,
            "about": " ".join(cls.__doc__.split()),
        }


class Inputs:
    """What a station may read: images, the settings of its scale, and what the stations in its ``reads`` made."""

    def __init__(self, stage):
        self.stage = stage

    @cached_property
    def images(self):
        """``mlegfn.data.Images`` of the scale that the station's entry in params.yaml names; a missing file is a UserError."""
        from mlegfn.data import load_images

        return load_images(self.stage.input(Path("data", self.stage.entry.images)))

    def settings(self, station):
        """The settings of another station."""
        return getattr(self.stage.settings, station)

    def tensors(self, station):
        """{name: Tensor} of another station; a missing or broken file is a UserError."""
        from mlegfn.training.checkpoint import read_safetensors

        return read_safetensors(self.stage.input(self.stage.path("stations", f"{station}.safetensors")))
