"""A file of claims cannot be wrong without a line that says where."""

import copy
import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from mlegfn.errors import UserError
from reproduction.settings.types import Block
from reproduction.settings.validation import rule
from reproduction.verdicts.claims import load

CLAIMS = Path(__file__).parents[3] / "claims"


class Below(Block):
    """The value of ``model`` is below ``limit``."""

    kind: Literal["below"]
    model: Annotated[str, Field(pattern="^[a-z]+$")]
    limit: Annotated[float, Field(ge=-10, le=0, strict=True)]


class Between(Block):
    """The value of ``model`` lies between two others'."""

    kind: Literal["between"]
    model: Literal["mine", "yours"]
    others: Annotated[list[Literal["a", "b", "c"]], Field(min_length=2)]

    @rule("others", "model")
    def others_differ(others, model):
        return None if len(set(others)) == len(others) else "names something twice"


KINDS = {"below": Below, "between": Between}
RAW = {
    "first": {
        "claim": "it is low",
        "paper": "low",
        "source": "Figure 1",
        "scales": None,
        "test": {"kind": "below", "model": "mine", "limit": -1.5},
    },
    "second-2": {
        "claim": "it lies between",
        "paper": "between",
        "source": "control",
        "scales": ["large"],
        "test": {"kind": "between", "model": "yours", "others": ["a", "c"]},
    },
}


def errors_of(folder, raw):
    """The lines of the UserError that ``raw`` gives, or none; anything else than a UserError is a failure."""
    path = folder / "claims" / "some.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    try:
        load(path, KINDS)
    except UserError as error:
        return str(error).splitlines()
    return []


def changed(path, value):
    """RAW with the setting at ``path`` replaced or added."""
    raw = copy.deepcopy(RAW)
    block = raw
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    return raw


def test_claims_come_in_the_order_of_the_file(tmp_path):
    assert errors_of(tmp_path, RAW) == []
    first, second = load(tmp_path / "claims" / "some.yaml", KINDS)
    assert (first.id, first.claim, first.scales) == ("first", "it is low", None)
    assert isinstance(first.test, Below) and first.test.limit == -1.5
    assert (second.id, second.scales, second.test.others) == ("second-2", ["large"], ["a", "c"])


def test_every_claim_of_the_repository_has_a_test_of_its_own():
    from reproduction.settings.yaml_file import read_yaml

    names = [name for path in sorted(CLAIMS.glob("*.yaml")) for name in read_yaml(path)]
    assert len(names) > 20 and len(set(names)) == len(names)  # results/summary.json knows them by their names


@pytest.mark.parametrize("key", ["verdict", "estimate", "interval"])
@pytest.mark.parametrize("place", [("first",), ("first", "test")])
def test_a_verdict_cannot_be_typed_in(tmp_path, place, key):
    (line,) = errors_of(tmp_path, changed((*place, key), "reproduced"))
    assert line.startswith("claims/some.yaml: first: ") and key in line


def test_an_unknown_kind_lists_those_there_are(tmp_path):
    (line,) = errors_of(tmp_path, changed(("first", "test", "kind"), "looks_nice"))
    assert "test.kind" in line and all(kind in line for kind in KINDS)


def test_rules_between_settings_are_asked(tmp_path):
    (line,) = errors_of(tmp_path, changed(("second-2", "test", "others"), ["a", "a"]))
    assert line == "claims/some.yaml: second-2: test.others: names something twice"


def test_a_name_that_is_none_is_named(tmp_path):
    (line,) = errors_of(tmp_path, {**RAW, "Not a name": RAW["first"]})
    assert "Not a name" in line and "not a name" in line


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{}", "a: [", "a: 1\na: 2\n", "\x00", "a: &a [*a]", "? {a: b}\n: c"]
)
def test_what_is_not_claims_is_one_line(tmp_path, text):
    assert len(errors_of(tmp_path, text)) == 1


LEAVES = [(name, key) for name, claim in RAW.items() for key in claim if key != "test"]
LEAVES += [(name, "test", key) for name, claim in RAW.items() for key in claim["test"] if key != "kind"]
WRONG = st.one_of(st.integers(min_value=1), st.just(""), st.just([]), st.dictionaries(st.text(), st.none()))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(LEAVES), WRONG, min_size=1, max_size=6))
def test_one_error_for_each_broken_key(tmp_path, broken):
    raw = copy.deepcopy(RAW)
    for path, value in broken.items():
        block = raw
        for key in path[:-1]:
            block = block[key]
        block[path[-1]] = value
    lines = errors_of(tmp_path, raw)
    assert len(lines) == len(broken), lines
    for name, *keys in broken:
        assert sum(line.startswith(f"claims/some.yaml: {name}: {'.'.join(keys)}: ") for line in lines) == 1


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JUNK, st.sampled_from([(), ("first",), ("first", "test")]))
def test_junk_never_gives_a_traceback(tmp_path, junk, place):
    lines = errors_of(tmp_path, changed(place, junk) if place else junk)
    assert lines and all("claims/some.yaml" in line for line in lines)
