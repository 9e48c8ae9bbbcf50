"""How many scenes show what their captions say, and with which error."""

import torch

from mlegfn.randomness import generator
from reproduction.gallery.station import Quantity
from reproduction.gallery.text.captions import scenes
from reproduction.gallery.text.contrast import top_1
from reproduction.gallery.text.seeing import Seer

__all__ = ["Judge", "difference", "everything", "mean", "share"]


def everything(painter, seed):
    """[C, 1, 32, 32]: one scene of each caption."""
    return painter.draw(torch.arange(len(scenes())), generator(seed, "gallery", "everything"))


class Judge:
    """Says of one scene for each caption whether it shows what its caption says: the classifiers of ``Seer``, fitted to
    real scenes of training digits, and CLIP's retrieval."""

    def __init__(self, language, train, count, seed):
        """language: ``Frozen``; train: the painter of the training digits; count: of its scenes to fit to."""
        self.language, self.seed, self.captions = language, seed, torch.arange(len(scenes()))
        rows = self.captions[torch.arange(count) % len(scenes())]
        self.seer = Seer(train.draw(rows, generator(seed, "gallery", "measuring")), rows)

    @torch.no_grad()
    def __call__(self, scene, rows=None):
        """{what: bool [n]} of ``Seer.right``, and "clip" [C]: the scene retrieves its caption among all."""
        rows = self.captions if rows is None else rows
        scene = scene.clamp(-1, 1)
        image = self.language.clip.image_embedding(scene)
        return {
            **self.seer.right(scene, rows),
            "clip": top_1(image, self.language.embedding[: len(scenes())], rows),
        }

    def shuffled(self, scene):
        """The same of captions that belong to other scenes."""
        order = torch.randperm(len(scenes()), generator=generator(self.seed, "gallery", "judge", "shuffled"))
        return self(scene, order)


def mean(values, what):
    """Quantity: the mean of ``values`` [n], with its standard error."""
    values = values.double()
    return Quantity(what, [values.mean().item()], "", (values.std() / len(values) ** 0.5).item())


def share(values, what):
    """Quantity: the share of True in ``values`` bool [n], with its standard error."""
    return mean(values, what)


def difference(low, high, what):
    """Quantity: the mean of low − high, [n] each and paired, with its standard error."""
    return mean(low.double() - high.double(), what)
