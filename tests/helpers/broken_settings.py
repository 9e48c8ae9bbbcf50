"""Settings that are wrong: values of every kind at any place of a block, and files that are odd as a whole."""

import json
import math
import types
from typing import Annotated, Literal, Union, get_args, get_origin

from hypothesis import strategies as st

from reproduction.settings.validation import hint_at

JUNK = (
    *(None, True, False, 0, 1, 2, -1, 0.5, -0.0, math.nan, math.inf, -math.inf, 1e300, 10**30, 10**400, 2**63),
    *("", "x", "no", "1e-4", "\0", "\n", "\ud800", "é" * 300, "${item.x}", "../x", "~nobody/x", "/dev/zero"),
    *([], [[]], [None], [1, 1], {}, {"a": 1}, [{}], {"": {}}, list(range(3000)), ["x"] * 1000),
)  # fmt: skip
# No setting may have one of these values, whatever its type is.
IMPOSSIBLE = st.one_of(
    st.sampled_from(
        [math.nan, math.inf, -math.inf, -1, -0.5, 1e300, 10**30, {}, {"a": 1}, [[]], [{}], [None]]
    ),
    st.sampled_from(["fast", "on", "no", "1:30", "1_0_x", ".", "=", "0x", "2001-01-01T25"]),
)
LIMITS = {"ge": (0, -1), "gt": (0, 1e-9), "le": (0, 1), "lt": (0, -1e-9)}


def flow(value):
    """YAML in one line; JSON but for numbers that are none."""
    if isinstance(value, dict):
        keys = {key: key if type(key) is int else flow(str(key)) for key in value}
        return "{" + ", ".join(f"{keys[key]}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: ".inf", -math.inf: "-.inf"}.get(value, ".nan")
    return json.dumps(value)


def places(value, path=()):
    """Every path in nested mappings and lists."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def value_at(value, path):
    for key in path:
        value = value[key]
    return value


def changed(value, path, new):
    """A copy of ``value`` with ``new`` at ``path``."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def without(value, path):
    """A copy of ``value`` without the key at the end of ``path``."""
    block = value_at(value, path[:-1])
    return changed(value, path[:-1], {key: each for key, each in block.items() if key != path[-1]})


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
        bounds = [bound for one in extra for bound in (one, *getattr(one, "metadata", ()))]
        edges = [
            base(limit) + base(shift)
            for bound in bounds
            for name, shifts in LIMITS.items()
            if (limit := getattr(bound, name, None)) is not None
            for shift in shifts
        ]
        usual = st.integers(-2, 40) if base is int else st.floats(-1, 3)
        return st.one_of(usual, st.sampled_from(edges)) if edges else usual
    if base is str:
        return st.text(max_size=8) | st.sampled_from(["archive", "../x", "~nobody/x", "data", "/", "a\nb"])
    return st.sampled_from(JUNK)


@st.composite
def broken(draw, model, raw):
    """``raw`` with one to four places changed: mostly by values of their own kind, some by junk, some taken out."""
    paths = list(places(raw))
    leaves = [path for path in paths if not isinstance(value_at(raw, path), dict)]
    value = raw
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        kind = draw(st.sampled_from([*["typed"] * 6, "junk", "gone"]))
        path = draw(st.sampled_from(leaves if kind == "typed" else paths))
        try:
            if kind == "gone":
                value = without(value, path)
            else:
                new = of_hint(hint_at(model, path)) if kind == "typed" else st.sampled_from(JUNK)
                value = changed(value, path, draw(new))
        except (KeyError, TypeError, IndexError, AttributeError):
            continue  # an earlier change took the place away
    return value


def bombs(key):
    """``{name: bytes}`` of files that are small and stand for much, or that are odd as a whole."""
    rows = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 10)]
    merges = [f"x{i}: &x{i} {{<<: [{', '.join([f'*x{i - 1}'] * 10)}]}}" for i in range(1, 10)]
    many = ", ".join(f"u{i}: 1" for i in range(3000))
    aliases = ", ".join(f"s{i}: *x" for i in range(3000))
    texts = {
        "billion laughs": "\n".join(["x0: &x0 [a, b]", *rows, f"{key}: *x9"]),
        "billion merges": "\n".join(["x0: &x0 {a: 1}", *merges, f"{key}: *x9"]),
        "quadratic aliases": f"x: &x {{{many}}}\n{key}: {{{aliases}}}",
        "within itself": f"{key}: &a {{b: *a}}",
        "merged into itself": f"{key}: &a {{<<: *a}}",
        "thousands of wrong keys": f"{key}:\n" + "".join(f"  s{i}: 1\n" for i in range(2000)),
        "a long key": f"{key}: {{{'k' * 100_000}: 1}}",
        "a long number": f"{key}: {{a: {'9' * 100_000}}}",
        "no settings at all": "",
        "two documents": f"{key}: {{}}\n---\n{key}: {{}}",
        "python": f"{key}: !!python/object/apply:os.system ['touch canary']",
        "a mapping as key": f"{key}: {{? {{a: b}} : c}}",
    }
    return {name: text.encode() for name, text in texts.items()} | {"large": b"#" * 2**22}
