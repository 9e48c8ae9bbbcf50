"""Settings of the gallery: a block a station, named like its file in mlegfn/gallery. Imports no torch."""

from pydantic import Field

from mlegfn.gallery.settings.images import Algorithms
from mlegfn.gallery.settings.points import Forward
from mlegfn.gallery.settings.text import Cascade, Clip, Prior
from mlegfn.setting import Block


class Gallery(Block):
    """The stations of the lecture notes; one that is not named does not run at the scale."""

    forward: Forward | None = Field(default=None, description="forward diffusion")
    algorithms: Algorithms | None = Field(default=None, description="Algorithms 1 and 2 of DDPM")
    clip: Clip | None = Field(default=None, description="contrastive embeddings of scenes and captions")
    cascade: Cascade | None = Field(default=None, description="text to 8×8 to 32×32")
    prior: Prior | None = Field(default=None, description="caption to image embedding to scene")

    @property
    def names(self):
        """The stations that the scale has."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]
