"""A verdict follows from its evidence, whatever the evidence is about."""

import json
from types import SimpleNamespace

import pytest

from reproduction.verdicts import verdict
from reproduction.verdicts.claims import Claim
from reproduction.verdicts.evidence import REFUTED, REPRODUCED, UNDECIDED, Evidence, Part, below
from reproduction.verdicts.statistics import Interval
from reproduction.verdicts.verdict import UNTESTED

LOW, OPEN, HIGH = Interval(-2, -3, -1, 3), Interval(0.1, -1, 1.2, 3), Interval(2, 1, 3, 3)


def part(interval, where="here", outcome=None):
    return Part(where, interval, outcome or below(interval))


def claim(name="one", scales=None):
    return Claim(name, f"claim {name}", f"paper of {name}", "Figure 1", scales, SimpleNamespace(kind="kind"))


def decided(parts, untested=(), scales=None, noun="place", notes="a note"):
    """The row of one claim with this evidence, at the scale `small`."""
    evidence = Evidence(list(parts), list(untested), "nats", "what is asked", noun, notes)
    metrics = SimpleNamespace(name="small")
    report = verdict.decide(metrics, [claim(scales=scales)], {"kind": lambda metrics, test: evidence})
    assert report["scale"] == "small"
    json.dumps(report, allow_nan=False)
    (row,) = report["claims"]
    return row


def test_every_part_must_show_the_claim():
    row = decided([part(LOW, "a"), part(LOW, "b")])
    assert row["verdict"] == REPRODUCED
    assert row["detail"] == "reproduced at 2, undecided at 0, refuted at 0 of 2 places; a note"


@pytest.mark.parametrize("bad, expected", [(OPEN, UNDECIDED), (HIGH, REFUTED)])
def test_one_part_that_does_not_is_quoted(bad, expected):
    row = decided([part(LOW, "a"), part(bad, "b"), part(LOW, "c")])
    assert row["verdict"] == expected
    assert (row["where"], row["estimate"], row["interval"]) == ("b", bad.estimate, [bad.low, bad.high])
    assert [each["outcome"] for each in row["parts"]] == [REPRODUCED, expected, REPRODUCED]


def test_an_undecided_claim_says_what_could_not_have_been_seen():
    row = decided([part(LOW, "a"), part(OPEN, "b")])
    _, unseen, note = row["detail"].split("; ")
    assert unseen == "an effect below 1.1 nats could not have been seen" and note == "a note"
    for other in ([part(LOW)], [part(HIGH), part(OPEN)]):
        assert "could not have been seen" not in decided(other)["detail"]


def test_the_worst_part_is_refuted_then_undecided_then_reaches_highest():
    wide, open_higher = Interval(-2.5, -5, -0.1, 3), Interval(4, -2, 10, 3)
    row = decided([part(LOW, "a"), part(wide, "b")])
    assert (row["where"], row["seeds"], row["verdict"]) == ("b", 3, REPRODUCED)
    row = decided([part(LOW, "a"), part(open_higher, "b"), part(HIGH, "c"), part(OPEN, "d")])
    assert (row["where"], row["verdict"]) == ("c", REFUTED)
    row = decided([part(LOW, "a"), part(OPEN, "b"), part(open_higher, "c")])
    assert (row["where"], row["verdict"]) == ("c", UNDECIDED)


def test_a_part_may_be_decided_by_another_rule_than_a_limit_of_zero():
    row = decided([part(OPEN, "a", REPRODUCED)])
    assert row["verdict"] == row["parts"][0]["outcome"] == REPRODUCED


def test_what_is_missing_leaves_the_claim_open_unless_a_part_refutes_it():
    for shown in (LOW, OPEN):
        row = decided([part(shown)], ["arm vlb"])
        assert row["verdict"] == UNTESTED and "not at this scale: arm vlb" in row["detail"]
    assert decided([part(HIGH)], ["arm vlb"])["verdict"] == REFUTED


def test_without_parts_there_is_no_estimate():
    row = decided([], ["arm vlb"])
    assert (row["verdict"], row["detail"]) == (UNTESTED, "not at this scale: arm vlb")
    assert row["estimate"] is row["interval"] is row["seeds"] is None


def test_a_claim_of_other_scales_is_not_tested_here():
    row = decided([part(LOW)], scales=["large", "larger"])
    assert (row["verdict"], row["detail"]) == (UNTESTED, "only tested at the scales large, larger")
    assert row["estimate"] is None
    assert decided([part(LOW)], scales=["small"])["verdict"] == REPRODUCED


@pytest.mark.parametrize("interval, said", [(LOW, "it"), (OPEN, "neither it nor"), (HIGH, "the opposite")])
def test_a_single_part_has_no_count(interval, said):
    assert decided([part(interval)], noun=None)["detail"].startswith(f"the interval shows {said}")


def test_the_table_says_what_the_json_says():
    rows = [
        decided([part(LOW, "a")]),
        decided([part(HIGH, "b")]),
        decided([], ["arm vlb"]),
        decided([part(OPEN)]),
    ]
    text = verdict.markdown({"scale": "small", "claims": rows})
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    for line, row in zip(lines[2:], rows):
        assert row["claim"] in line and row["paper"] in line and f"**{row['verdict']}**" in line
    assert "−2.0000 [−3.0000, −1.0000], a" in lines[2] and "+2.0000 [+1.0000, +3.0000], b" in lines[3]
    assert "Verdicts at the scale `small`" in text


def test_one_seed_is_flagged():
    row = decided([part(Interval(-2, -3, -1, 1))])
    assert "1 (interval not over seeds)" in verdict.markdown({"scale": "small", "claims": [row]})
