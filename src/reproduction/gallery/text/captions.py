"""Every caption there is, and the scene that it describes."""

from dataclasses import dataclass
from functools import cache

import torch

from mlegfn.randomness import generator

__all__ = ["DIGITS", "PLACES", "RELATIONS", "SIZES", "Scene", "held_out", "scenes"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZES = ("small", "large")
PLACES = ("on the left", "on the right", "at the top", "at the bottom")
RELATIONS = ("left of", "above")


@dataclass(frozen=True)
class Scene:
    """What a caption says. One digit has a size, a place and may be dark (on light); two have a relation.

    digits: one or two classes; size, place, relation: indices into SIZES, PLACES, RELATIONS, or None.
    """

    caption: str
    digits: tuple
    size: int | None = None
    place: int | None = None
    dark: bool = False
    relation: int | None = None


@cache
def scenes():
    """The 360 scenes, in a fixed order: 160 with one digit, 200 with two."""
    one = [
        Scene(
            f"a {SIZES[size]} {'dark ' if dark else ''}{DIGITS[digit]} {PLACES[place]}",
            (digit,),
            size,
            place,
            dark,
        )
        for digit in range(10)
        for size in range(len(SIZES))
        for place in range(len(PLACES))
        for dark in (False, True)
    ]
    two = [
        Scene(
            f"{article(a)} {DIGITS[a]} {RELATIONS[relation]} {article(b)} {DIGITS[b]}",
            (a, b),
            relation=relation,
        )
        for a in range(10)
        for b in range(10)
        for relation in range(len(RELATIONS))
    ]
    return (*one, *two)


def article(digit):
    return "an" if DIGITS[digit] == "eight" else "a"


def held_out(fraction, seed):
    """bool [C]: which scenes no model may see in training. Their words all occur in others: what is new is the
    combination. The same fraction of scenes with one and with two digits; a function of the seed."""
    single = torch.tensor([len(scene.digits) == 1 for scene in scenes()])
    out = torch.zeros(len(single), dtype=torch.bool)
    for kind in (True, False):
        rows = (single == kind).nonzero().squeeze(1)
        order = torch.randperm(len(rows), generator=generator(seed, "gallery", "held out", kind))
        out[rows[order[: round(fraction * len(rows))]]] = True
    return out
