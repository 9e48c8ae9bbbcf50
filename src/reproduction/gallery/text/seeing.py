"""What a scene shows, measured without any of the networks: where its ink is, how much, and which digits it looks like."""

import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch.nn import functional as F

from reproduction.gallery.text.captions import scenes
from reproduction.gallery.text.painting import HIGH

__all__ = ["ASPECTS", "Seer", "features"]

ASPECTS = ("digits", "place", "size", "relation", "dark")
CROP = 8
INK = 0.35  # what counts as ink, between paper 0 and full ink 1


class Seer:
    """Support-vector classifiers fitted to real scenes with their captions ``rows`` (indices into ``scenes()``).

    Place, size and relation are read from nine moments and extents of the ink, the digits from a crop of 8×8 around it;
    of a scene with two digits, from each of the halves where its caption has them. Dark: the paper is lighter than the ink.
    """

    def __init__(self, scene, rows):
        self.models = {}
        moments, table = features(scene), facts(rows)
        for aspect in ("place", "size", "relation"):
            known = table[aspect] >= 0
            self.models[aspect] = make_pipeline(StandardScaler(), SVC()).fit(
                moments[known].numpy(), table[aspect][known].numpy()
            )
        cut, digits = crops(scene, table)
        self.models["digits"] = SVC().fit(cut.flatten(1).numpy(), digits.numpy())

    def right(self, scene, rows):
        """{aspect: bool [n]} for the n scenes whose captions speak of it, and "all" [N]: all that a caption says is so.

        Every digit of a scene must be right.
        """
        moments, table = features(scene), facts(rows)
        correct, every = {}, torch.ones(len(rows), dtype=torch.bool)
        for aspect in ("place", "size", "relation"):
            known = table[aspect] >= 0
            correct[aspect] = table[aspect].new_zeros(0).bool()
            if known.any():
                read = torch.from_numpy(self.models[aspect].predict(moments[known].numpy()))
                correct[aspect] = read == table[aspect][known]
                every[known] &= correct[aspect]
        cut, digits = crops(scene, table)
        good = torch.from_numpy(self.models["digits"].predict(cut.flatten(1).numpy())) == digits
        pairs = table["relation"] >= 0
        correct["digits"] = torch.ones(len(rows), dtype=torch.bool)
        singles = int((~pairs).sum())
        correct["digits"][~pairs] = good[:singles]
        correct["digits"][pairs] = good[singles:].view(2, -1).all(0)
        correct["dark"] = is_dark(scene) == table["dark"]
        return {**correct, "all": every & correct["digits"] & correct["dark"]}


def facts(rows):
    """{what: int64 [N]} of the captions: place, size, relation (−1: not said), first and second digit, dark (bool)."""
    asked = [scenes()[row] for row in rows.tolist()]
    table = {
        name: torch.tensor([-1 if getattr(scene, name) is None else getattr(scene, name) for scene in asked])
        for name in ("place", "size", "relation")
    }
    table["digits"] = torch.tensor([[*scene.digits, -1][:2] for scene in asked])
    table["dark"] = torch.tensor([scene.dark for scene in asked])
    return table


def is_dark(scene):
    """bool [N]: the paper, most of a scene, is light."""
    return scene.flatten(1).median(1).values > 0


def ink_of(scene):
    """[N, 32, 32] in [0, 1]: 1 is ink, whether it is light or dark."""
    sign = torch.where(is_dark(scene), -1.0, 1.0)[:, None, None]
    return ((scene[:, 0].clamp(-1, 1) * sign) + 1) / 2


def features(scene):
    """[N, 9]: total ink, its centre (y, x) and standard deviations, and the edges of the box around it."""
    ink = ink_of(scene)
    total = ink.sum((1, 2)).clamp(min=1e-6)
    place = torch.arange(HIGH) + 0.5
    features = [total]
    for weight in (ink.sum(2), ink.sum(1)):  # by row, by column
        centre = (weight * place).sum(1) / total
        spread = (weight * (place - centre[:, None]).square()).sum(1) / total
        features += [centre, spread.sqrt()]
    return torch.stack([*features, *box(ink)], 1)


def box(ink):
    """(top, bottom, left, right), each [N]: edges of the smallest box around ink; the whole scene where there is none."""
    edges, place = [], torch.arange(HIGH)
    for inked in ((ink > INK).any(2), (ink > INK).any(1)):
        some = inked.any(1)
        first = torch.where(inked, place, HIGH).amin(1)
        last = torch.where(inked, place + 1, 0).amax(1)
        edges += [torch.where(some, first, 0).float(), torch.where(some, last, HIGH).float()]
    return edges


def crops(scene, table):
    """(crops [M, 8, 8], digits int64 [M]): of scenes with one digit, then of the first halves of the others, then of
    their second halves."""
    pairs = table["relation"] >= 0
    ink = ink_of(scene)
    both, beside = ink[pairs], (table["relation"][pairs] == 0)[:, None, None]
    near = torch.arange(HIGH) < HIGH // 2
    first = torch.where(beside, near[None, None, :], near[None, :, None])
    cut = torch.cat([ink[~pairs], both * first, both * ~first])
    digits = torch.cat([table["digits"][~pairs, 0], *table["digits"][pairs].T])
    top, bottom, left, right = box(cut)
    side = torch.maximum(bottom - top, right - left)[:, None]
    place = (torch.arange(CROP) + 0.5) / CROP - 0.5  # from −½ to ½ of the square's side
    grid = [
        2 * ((low + high)[:, None] / 2 + side * place) / HIGH - 1
        for low, high in ((top, bottom), (left, right))
    ]
    y, x = grid[0][:, :, None].expand(-1, -1, CROP), grid[1][:, None, :].expand(-1, CROP, -1)
    return F.grid_sample(cut[:, None], torch.stack([x, y], -1), align_corners=False)[:, 0], digits
