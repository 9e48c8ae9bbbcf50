"""Validation: every mistake at once, one line each with its key, in the words of the file."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from mlegfn.errors import UserError
from reproduction.settings.types import Block, Count, Fraction, Positive, Sha256, Switch
from reproduction.settings.validation import SAID, rule, validate


class Inner(Block):
    lr: Positive
    decay: Fraction
    flip: Switch


class Outer(Block):
    kind: Literal["one", "two"]
    steps: Annotated[list[Count], Field(min_length=1)]
    limit: Count | None
    digest: Sha256 | None
    inner: Inner
    named: dict[str, Inner]

    @rule("limit", "inner.lr")
    def limit_fits(limit, lr):
        return None if limit is None or limit > lr else f"must be above inner.lr, {lr}"


INNER = {"lr": 0.1, "decay": 0.9, "flip": True}
RAW = {"kind": "one", "steps": [1], "limit": None, "digest": None, "inner": INNER, "named": {"a": INNER}}


def lines(raw, model=Outer):
    with pytest.raises(UserError) as error:
        validate(model, raw, "a.yaml")
    return str(error.value).split("\n")


def test_sound_settings_pass():
    settings = validate(Outer, RAW, "a.yaml")
    assert settings.inner.lr == 0.1 and settings.named["a"].flip is True
    assert validate(Outer, {**RAW, "inner": {**INNER, "lr": 1}}, "a.yaml").inner.lr == 1.0


@pytest.mark.parametrize(
    "change, line",
    [
        ({"kind": "three"}, "kind: expected one of one, two, got 'three'"),
        ({"steps": []}, "steps: expected a list (at least one), each an integer ≥ 1, got []"),
        ({"steps": 3}, "steps: expected a list (at least one), each an integer ≥ 1, got 3"),
        ({"steps": [1, "two"]}, "steps[1]: expected an integer ≥ 1, got 'two'"),
        ({"steps": [10**400]}, "steps[0]: expected an integer ≥ 1 and ≤ 1e9, got 1000000"),
        ({"limit": 0}, "limit: expected an integer ≥ 1 or null, got 0"),
        ({"digest": "f" * 63}, "digest: expected text matching ^[0-9a-f]{64}$ or null, got 'fff"),
        ({"inner": {**INNER, "lr": "fast"}}, "inner.lr: expected a number > 0, got 'fast'"),
        ({"inner": {**INNER, "lr": True}}, "inner.lr: expected a number > 0, got true"),
        ({"inner": {**INNER, "lr": float("nan")}}, "inner.lr: expected a number > 0, got nan"),
        ({"inner": {**INNER, "decay": 1.0}}, "inner.decay: expected a number ≥ 0 and < 1, got 1.0"),
        ({"inner": {**INNER, "flip": "no"}}, "inner.flip: expected true or false, got 'no'"),
        ({"inner": None}, "inner: expected a block of settings, got null"),
        ({"named": [1]}, "named: expected a block of settings, got [1]"),
        (
            {"named": {"a": {**INNER, "zebra": 1}}},
            "named.a.zebra: unknown setting; there are lr, decay, flip",
        ),
        ({"named": {"a": {**INNER, "decoy": 1}}}, "named.a.decoy: unknown setting; did you mean 'decay'?"),
        (
            {"inner": {"lr": 1.0, "decoy": 0.5, "flip": True}},
            "inner.decoy: unknown setting; did you mean 'decay', which",
        ),
        ({"inner": {"lr": 1.0, "flip": True}}, "inner.decay: missing; expected a number ≥ 0 and < 1"),
        ({"limit": 1, "inner": {**INNER, "lr": 2.0}}, "limit: must be above inner.lr, 2.0"),
    ],
)
def test_what_each_mistake_says(change, line):
    (found,) = lines({**RAW, **change})
    assert found.startswith(f"a.yaml: {line}"), found
    assert len(found) < 400


def test_every_mistake_is_said_at_once():
    found = lines({**RAW, "kind": 3, "steps": [0, 1, -1], "inner": {**INNER, "lr": 0, "flip": None}})
    keys = [line.split(": ")[1] for line in found]
    assert sorted(keys) == ["inner.flip", "inner.lr", "kind", "steps[0]", "steps[2]"]


def test_a_rule_is_checked_beside_other_mistakes_but_not_on_broken_settings():
    """pydantic's own validators would stay silent until the first mistake is mended."""
    found = lines({**RAW, "limit": 1, "kind": 3, "inner": {**INNER, "lr": 2.0}})
    assert [line.split(": ")[1] for line in found] == ["kind", "limit"]
    found = lines({**RAW, "limit": 1, "inner": {**INNER, "lr": "fast"}})
    assert [line.split(": ")[1] for line in found] == ["inner.lr"]


def test_a_mistake_in_an_inherited_block_is_one_line():
    with pytest.raises(UserError) as error:
        broken = {**INNER, "lr": "soon"}
        validate(
            Outer, {**RAW, "inner": broken, "named": {"a": broken}}, "a.yaml", lambda: lambda path: path[-1]
        )
    assert str(error.value) == "a.yaml: inner.lr: expected a number > 0, got 'soon'"


def test_thousands_of_mistakes_are_counted():
    found = lines({**RAW, "steps": [0] * 5000})
    assert len(found) == SAID + 1 and found[-1].endswith("4900 more mistakes; mend these first")


@pytest.mark.parametrize("raw", [None, [], 3, "x"])
def test_what_is_no_block_at_all(raw):
    (line,) = lines(raw)
    assert line.startswith("a.yaml: expected a block of settings, got ")
