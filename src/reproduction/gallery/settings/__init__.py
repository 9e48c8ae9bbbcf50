"""Settings of the gallery: a block a station, named like its file in gallery/stations. Imports no torch."""

from pydantic import Field

from reproduction import gallery
from reproduction.gallery.settings.images import Algorithms, Guidance, Inpainting, Progressive, Shared
from reproduction.gallery.settings.likelihood import Annealing, Objectives, Samplers
from reproduction.gallery.settings.points import Forward, Schedules, Spiral
from reproduction.gallery.settings.text import Cascade, Clip, Prior
from reproduction.settings.types import Block
from reproduction.settings.validation import rule


class Gallery(Block):
    """The stations of the lecture notes; one that is not named does not run at the scale."""

    forward: Forward | None = Field(default=None, description="forward diffusion")
    spiral: Spiral | None = Field(default=None, description="recovery of a spiral")
    schedules: Schedules | None = Field(default=None, description="noise schedules")
    algorithms: Algorithms | None = Field(default=None, description="Algorithms 1 and 2 of DDPM")
    progressive: Progressive | None = Field(default=None, description="x̂_0 on the way; reads algorithms")
    shared: Shared | None = Field(default=None, description="samples that share x_t; reads algorithms")
    inpainting: Inpainting | None = Field(default=None, description="filling a part; reads algorithms")
    guidance: Guidance | None = Field(default=None, description="classifier-free guidance")
    objectives: Objectives | None = Field(default=None, description="objectives and reverse variances")
    annealing: Annealing | None = Field(default=None, description="annealed importance sampling of log p")
    samplers: Samplers | None = Field(default=None, description="fast samplers and the probability-flow ODE")
    clip: Clip | None = Field(default=None, description="contrastive embeddings of scenes and captions")
    cascade: Cascade | None = Field(default=None, description="text to 8×8 to 32×32")
    prior: Prior | None = Field(default=None, description="caption to image embedding to scene")

    @property
    def names(self):
        """The stations that the scale runs."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]

    @rule(".")
    def what_is_read_is_run(block):
        known = gallery.names()
        run = [name for name, settings in block.items() if settings is not None and name in known]
        for name in run:
            if missing := set(gallery.reads(name)) - set(run):
                return f"{name} reads {', '.join(sorted(missing))}, which must be a block here too"

    @rule("shared.sampling_steps", "algorithms.timesteps")
    def shared_fits(steps, timesteps):
        return _at_most(steps, timesteps)

    @rule("inpainting.sampling_steps", "algorithms.timesteps")
    def inpainting_fits(steps, timesteps):
        return _at_most(steps, timesteps)

    @rule("progressive.times", "algorithms.timesteps")
    def progressive_fits(times, timesteps):
        return _at_most(times, timesteps)


def _at_most(steps, timesteps):
    if steps > timesteps:
        return f"must be at most algorithms.timesteps, {timesteps}"
