"""hypothesis strategies for settings, from the schema: each key gets values of its own type, of its bounds, or junk."""

import types
from typing import Annotated, Literal, Union, get_args, get_origin

import fuzzing
from hypothesis import strategies as st

from mlegfn.validation import hint_at

NUMBERS = {"ge": (0, -1), "gt": (0, 1e-9), "le": (0, 1), "lt": (0, -1e-9)}


def of_hint(hint):
    """Values that a setting of this annotation may have, and those at and just over its bounds."""
    base, extra = (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
    if get_origin(base) in (Union, types.UnionType):
        return st.one_of(*map(of_hint, get_args(base)))
    if base is type(None):
        return st.none()
    if get_origin(base) is Literal:
        return st.sampled_from(get_args(base))
    if get_origin(base) is list:
        return st.lists(of_hint(get_args(base)[0]), max_size=4)
    if base is bool:
        return st.booleans()
    if base in (int, float):
        bounds = [b for each in extra for b in (each, *getattr(each, "metadata", ()))]
        edges = [
            base(limit) + base(shift)
            for b in bounds
            for name, shifts in NUMBERS.items()
            if (limit := getattr(b, name, None)) is not None
            for shift in shifts
        ]
        usual = st.integers(-2, 40) if base is int else st.floats(-1, 3)
        return st.one_of(usual, st.sampled_from(edges)) if edges else usual
    if base is str:
        return st.text(max_size=8) | st.sampled_from(["archive", "../x", "~nobody/x", "data", "/", "a\nb"])
    return st.sampled_from(fuzzing.JUNK)


def _at(value, path):
    for key in path:
        value = value[key]
    return value


def broken(model, raw):
    """``raw`` with one to four places changed: mostly by values of their own kind, some by junk, some taken out."""
    paths = list(fuzzing.places(raw))
    # Blocks are few, but taking one out is a case too; mostly it is single settings that are changed.
    leaves = [path for path in paths if not isinstance(_at(raw, path), dict)]

    @st.composite
    def draw_settings(draw):
        value = raw
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
            kind = draw(st.sampled_from([*["typed"] * 6, "junk", "gone", "renamed"]))
            path = draw(st.sampled_from(leaves if kind == "typed" else paths))
            try:
                if kind in ("gone", "renamed"):
                    block = value
                    for key in path[:-1]:
                        block = block[key]
                    kept = [item for item in block.items() if item[0] != path[-1]]
                    more = [(f"{path[-1]}x", block[path[-1]])] if kind == "renamed" else []
                    value = fuzzing.changed(value, path[:-1], dict(kept + more))
                else:
                    new = of_hint(hint_at(model, path)) if kind == "typed" else st.sampled_from(fuzzing.JUNK)
                    value = fuzzing.changed(value, path, draw(new))
            except (KeyError, TypeError, IndexError, AttributeError):
                continue  # an earlier change took the place away
        return value

    return draw_settings()
