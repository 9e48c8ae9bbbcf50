"""A verdict follows from its evidence, whatever the evidence is about."""

import json
from types import SimpleNamespace

import pytest

from reproduction.verdicts import verdict
from reproduction.verdicts.claims import Claim
from reproduction.verdicts.evidence import Evidence, Part
from reproduction.verdicts.statistics import Interval

REPRODUCED, NOT, UNTESTED = "reproduced", "not reproduced", "not tested at this scale"
LOW, OPEN, HIGH = Interval(-2, -3, -1, 3), Interval(0.1, -1, 1.2, 3), Interval(2, 1, 3, 3)


def part(interval, where="here", holds=None):
    return Part(where, interval, interval.high < 0 if holds is None else holds)


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


def test_every_part_must_hold():
    row = decided([part(LOW, "a"), part(LOW, "b")])
    assert row["verdict"] == REPRODUCED
    assert row["detail"] == "lower at 2, indistinguishable at 0, higher at 0 of 2 places; a note"


@pytest.mark.parametrize("bad", [OPEN, HIGH])
def test_one_part_decides_against_the_claim_and_is_quoted(bad):
    row = decided([part(LOW, "a"), part(bad, "b"), part(LOW, "c")])
    assert row["verdict"] == NOT
    assert (row["where"], row["estimate"], row["interval"]) == ("b", bad.estimate, [bad.low, bad.high])
    assert [each["outcome"] for each in row["parts"]] == ["lower", bad.outcome, "lower"]
    assert [each["holds"] for each in row["parts"]] == [True, False, True]


def test_the_worst_part_is_that_whose_interval_reaches_highest():
    wide = Interval(-2.5, -5, -0.1, 3)
    row = decided([part(LOW, "a"), part(wide, "b")])
    assert (row["where"], row["seeds"], row["verdict"]) == ("b", 3, REPRODUCED)


def test_a_part_may_hold_by_another_rule_than_its_interval():
    row = decided([part(OPEN, "a", holds=True)])
    assert row["verdict"] == REPRODUCED and row["parts"][0]["outcome"] == "indistinguishable"


def test_what_is_missing_leaves_the_claim_open_unless_a_part_decides_against_it():
    row = decided([part(LOW)], ["arm vlb"])
    assert row["verdict"] == UNTESTED and "not at this scale: arm vlb" in row["detail"]
    assert decided([part(HIGH)], ["arm vlb"])["verdict"] == NOT


def test_without_parts_there_is_no_estimate():
    row = decided([], ["arm vlb"])
    assert (row["verdict"], row["detail"]) == (UNTESTED, "not at this scale: arm vlb")
    assert row["estimate"] is row["interval"] is row["seeds"] is None


def test_a_claim_of_other_scales_is_not_tested_here():
    row = decided([part(LOW)], scales=["large", "larger"])
    assert (row["verdict"], row["detail"]) == (UNTESTED, "only tested at the scales large, larger")
    assert row["estimate"] is None
    assert decided([part(LOW)], scales=["small"])["verdict"] == REPRODUCED


def test_a_mean_has_no_count():
    assert decided([part(LOW)], noun=None)["detail"] == "lower; a note"


def test_the_table_says_what_the_json_says():
    rows = [decided([part(LOW, "a")]), decided([part(HIGH, "b")]), decided([], ["arm vlb"])]
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
