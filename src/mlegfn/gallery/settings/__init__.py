"""Settings of the gallery: a block a station, named like its file in mlegfn/gallery. Imports no torch."""

from pydantic import Field

from mlegfn.gallery.settings.images import Algorithms
from mlegfn.gallery.settings.likelihood import Annealing, Objectives, Samplers
from mlegfn.gallery.settings.points import Forward
from mlegfn.setting import Block


class Gallery(Block):
    """The stations of the lecture notes; one that is not named does not run at the scale."""

    forward: Forward | None = Field(default=None, description="forward diffusion")
    objectives: Objectives | None = Field(default=None, description="objectives and reverse variances")
    annealing: Annealing | None = Field(default=None, description="annealed importance sampling of log p")
    algorithms: Algorithms | None = Field(default=None, description="Algorithms 1 and 2 of DDPM")
    samplers: Samplers | None = Field(default=None, description="fast samplers and the probability-flow ODE")

    @property
    def names(self):
        """The stations that the scale has."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]
