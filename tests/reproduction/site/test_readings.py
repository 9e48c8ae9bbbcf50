"""Sentences about verdicts say what the verdicts say."""

import json
from pathlib import Path

from reproduction.site import readings

REPOSITORY = Path(__file__).resolve().parents[3]


def rows(first, control, scale="digits"):
    def row(name, verdict, outcomes):
        parts = [{"outcome": outcome} for outcome in outcomes]
        return {"id": name, "verdict": verdict, "scale": scale, "parts": parts}

    words = {
        True: ("reproduced", ["lower", "lower"]),
        False: ("not reproduced", ["higher", "indistinguishable"]),
    }
    return [row(readings.KEY[0], *words[first]), row(readings.KEY[1], *words[control])]


def test_the_first_sentence_follows_the_verdicts():
    assert readings.outcome([])[0].startswith("Nothing has been measured")
    good = readings.outcome(rows(True, True))[0]
    assert "MLE-GFN beats the baseline" in good and "2 of 2 checkpoints." in good
    alike = readings.outcome(rows(True, False))[0]
    assert "0 of 2 checkpoints, so that the term is not shown to be why" in alike
    bad = readings.outcome(rows(False, False))[0]
    assert "does not beat the baseline" in bad
    both = readings.outcome(rows(True, False) + rows(False, False, "other"))
    assert "at `digits`, but not at `other`; " in both[0] and "0 of 4 checkpoints" in both[0]
    assert both[-1].startswith("Of 4 verdicts at 2 scales, 1 say “reproduced” and 3 “not reproduced”")


def test_a_reading_quotes_the_verdict():
    report = json.loads((REPOSITORY / "results/digits/images/report/verdict.json").read_text())
    row = next(row for row in report["claims"] if row["id"] == readings.KEY[0])
    text, notes = readings.reading(row)
    assert readings.number(row["estimate"]) in text and row["where"] in text and text.endswith("3 seeds.")
    assert notes.endswith("one pre-training run.")


def test_the_same_means_the_claim_before():
    claims = ["On a", "The same on b", "The same on c", "On d"]
    assert readings.same_as(claims) == [None, "On a", "On a", None]


def test_lists_in_words():
    assert [readings.listed(names) for names in ([], "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
