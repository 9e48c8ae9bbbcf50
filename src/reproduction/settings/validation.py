"""Every mistake in a settings file at once, one line each, naming its key.

pydantic finds the mistakes; here they are said in the words of the file. Two kinds of check exist:
the types and ranges of single settings (the models' annotations), and rules between settings
(functions of a model that :func:`rule` decorates). pydantic would skip the second kind wherever the first
kind failed nearby; here every rule runs whose own settings are sound.
"""

import difflib
import reprlib
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mlegfn.errors import UserError

BOUNDS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
SAID = 100  # lines of errors; what else is wrong is counted
PLAIN = {int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "null"}


class Rule(NamedTuple):
    """A check between settings, made by :func:`rule`."""

    paths: tuple
    check: Callable


def rule(*paths):
    """Decorate a check between settings: it gets the values at ``paths`` (dotted, relative to its block; "." is
    the block itself, as the file has it). It is not asked where a path leads through an optional block that is absent.

    It returns a sentence where they do not fit, or None. The sentence is reported at the first path.
    """
    return lambda check: Rule(paths, check)


def validate(model, raw, file, origins=None):
    """``raw`` (what the file holds) as a ``model``, or a UserError with one line for each broken key.

    :param model: a pydantic model class; its blocks may have rules between settings
    :param raw: mappings, lists and scalars as a YAML reader gives them
    :param file: the name that starts each line, or a function from a path to it
    :param origins: called once if there are errors; gives a function from a path to the place in the
        file where it is written. Errors at one place are one line, at the first path that leads there.
    """
    try:
        settings, errors = model.model_validate(raw), {}
    except ValidationError as found:
        settings, errors = None, _field_errors(model, found)
    broken = Broken(errors)
    for path, sentence in _rule_errors(model, raw, (), broken):
        errors.setdefault(path, sentence)
        broken.add(path)
    if errors:
        origin, places = origins() if origins else (lambda path: path), {}
        for path, sentence in errors.items():
            places.setdefault((origin(path), sentence), path)
        name = file if callable(file) else lambda path: file
        lines = [f"{name(path)}: {_dotted(path)}{sentence}" for (_, sentence), path in places.items()]
        if len(lines) > SAID:
            lines[SAID:] = [f"{name(())}: {len(lines) - SAID} more mistakes; mend these first"]
        raise UserError("\n".join(lines))
    return settings


def _field_errors(model, found):
    """``{path: sentence}`` of pydantic's errors, a misspelt key and the missing one it stands for as one."""
    unknown, missing, errors = [], [], {}
    for error in found.errors(include_url=False, include_context=False):
        path, kind = error["loc"], error["type"]
        if kind == "missing":
            missing.append(path)
        elif kind in ("extra_forbidden", "invalid_key"):
            unknown.append(path)
        elif path and path[-1] == "[key]":
            errors[path[:-1]] = "not a name; use lower-case letters, digits and hyphens"
        else:
            wanted = expectation(hint_at(model, path), ceiling=kind == "less_than_equal")
            errors[path] = f"expected {wanted}, got {shown(error['input'])}"
    for path, wanted in _misspellings(unknown[:SAID], missing):
        errors[path] = f"unknown setting; did you mean {wanted!r}, which is missing?"
    for index, path in enumerate(unknown):
        errors.setdefault(path, _unknown(model, path) if index < SAID else "unknown setting")
    for path in missing:
        errors[path] = f"missing; expected {expectation(hint_at(model, path))}"
    return errors


def _misspellings(unknown, missing):
    """Pair unknown keys with missing ones of the same block, most alike first; takes them out of ``missing``."""
    by_block = {}
    for m in missing:
        by_block.setdefault(m[:-1], []).append(m)
    alike = [
        (difflib.SequenceMatcher(None, str(u[-1])[:100], m[-1]).ratio(), u, m)
        for u in unknown
        for m in by_block.get(u[:-1], ())
    ]
    done = set()
    for ratio, u, m in sorted(alike, key=lambda entry: -entry[0]):
        if ratio >= 0.6 and u not in done and m in missing:
            done.add(u)
            missing.remove(m)
            yield u, m[-1]


def _unknown(model, path):
    """What to say of a key that no setting has."""
    names = list(_model(hint_at(model, path[:-1])).model_fields)
    if close := difflib.get_close_matches(str(path[-1])[:100], names, n=1):
        return f"unknown setting; did you mean {close[0]!r}?"
    return f"unknown setting; there are {', '.join(names)}"


class Broken:
    """The paths that have errors; quick to ask where there are thousands."""

    def __init__(self, paths):
        self.paths, self.above = set(), set()
        for path in paths:
            self.add(path)

    def add(self, path):
        self.paths.add(path)
        self.above.update(path[:depth] for depth in range(len(path)))

    def touches(self, path):
        """Whether one of them is ``path``, or lies inside it, or around it."""
        return path in self.above or any(path[:depth] in self.paths for depth in range(len(path) + 1))


def _rule_errors(hint, raw, path, broken):
    """Yield ``(path, sentence)`` of every broken rule whose settings have no errors of their own."""
    model = _model(hint)
    if not isinstance(raw, dict):
        return
    if model is None:
        if get_origin(_base(hint)) is dict:
            for key, value in raw.items():
                yield from _rule_errors(get_args(_base(hint))[1], value, (*path, key), broken)
        return
    for name, field in model.model_fields.items():
        if name in raw:
            yield from _rule_errors(_annotated(field), raw[name], (*path, name), broken)
    named = {
        name: each for base in reversed(model.__mro__) for name, each in vars(base).items()
    }  # inherited too
    for relative, check in (each for each in named.values() if isinstance(each, Rule)):
        if relative == (".",):
            if sentence := check(raw):
                yield path, sentence
            continue
        wanted = [(*path, *each.split(".")) for each in relative]
        if any(map(broken.touches, wanted)):
            continue
        try:
            values = [_value_at(raw, each.split(".")) for each in relative]
        except (
            KeyError,
            TypeError,
        ):  # absent or null, or the missing key that was reported as a misspelt one
            continue
        if sentence := check(*values):
            yield wanted[0], sentence


def _value_at(raw, keys):
    for key in keys:
        raw = raw[key]
    return raw


def _annotated(field):
    """A model field's annotation together with its constraints."""
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _base(hint):
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _model(hint):
    """The model class that ``hint`` names (an optional one too), or None."""
    base = _base(hint)
    if get_origin(base) in (Union, types.UnionType):
        blocks = [each for each in map(_model, get_args(base)) if each is not None]
        return blocks[0] if len(blocks) == 1 else None
    return base if isinstance(base, type) and issubclass(base, BaseModel) else None


def hint_at(hint, path):
    """The annotation of the setting at ``path`` below ``hint``; Any where there is none."""
    for key in path:
        base, model = _base(hint), _model(hint)
        if get_origin(base) in (Union, types.UnionType):
            base = next(
                (_base(each) for each in get_args(base) if get_origin(_base(each)) in (list, dict)), base
            )
        if model is not None:
            hint = _annotated(model.model_fields[key]) if key in model.model_fields else Any
        elif get_origin(base) is list:
            hint = get_args(base)[0]
        elif get_origin(base) is dict:
            hint = get_args(base)[1]
        else:
            return Any
    return hint


def expectation(hint, ceiling=False):
    """What a setting of this annotation must be, in words: ``a number > 0``, ``true or false``.

    The largest value that any setting may have (``le``) is said only with ``ceiling``.
    """
    base, constraints = _base(hint), []
    for extra in get_args(hint)[1:] if base is not hint else ():
        constraints += extra.metadata if isinstance(extra, FieldInfo) else [extra]
    if get_origin(base) in (Union, types.UnionType):
        return " or ".join(expectation(each) for each in get_args(base))
    if get_origin(base) is Literal:
        values = get_args(base)
        return f"one of {', '.join(values)}" if len(values) > 1 else values[0]
    if get_origin(base) is list:
        plural = " (at least one)" if any(getattr(c, "min_length", 0) for c in constraints) else ""
        return f"a list{plural}, each {expectation(get_args(base)[0])}"
    if _model(hint) is not None or get_origin(base) is dict:
        return "a block of settings"
    limits = [
        f"{sign} {getattr(c, name):g}".replace("e+0", "e")
        for name, sign in BOUNDS
        for c in constraints
        if hasattr(c, name) and (name != "le" or ceiling)
    ]
    limits += [f"matching {c.pattern}" for c in constraints if getattr(c, "pattern", None)]
    return " ".join([PLAIN.get(base, "a setting"), " and ".join(limits)]).strip()


def shown(value):
    """A value as a YAML file would have it, cut short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a block of settings" if value else "an empty block"
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 2, 60, 60, 60
    text = " ".join(short.repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _dotted(path):
    """``scales.digits.pretrain.checkpoints[2]: ``, or nothing for the whole file."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{shown(key)[1:-1]}" if text else shown(key)[1:-1]
    return text and f"{text}: "
