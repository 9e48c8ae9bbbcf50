"""Sentences about verdicts say what the verdicts say."""

import json

from reproduction.site import readings


def rows(first, control, scale="digits"):
    def row(name, verdict, outcomes):
        parts = [{"outcome": outcome} for outcome in outcomes]
        return {"id": name, "verdict": verdict, "scale": scale, "parts": parts}

    parts = {
        "reproduced": ["reproduced", "reproduced"],
        "refuted": ["refuted", "undecided"],
        "undecided": ["undecided", "reproduced"],
        "not tested at this scale": [],
    }
    return [row(key, word, parts[word]) for key, word in zip(readings.KEY, (first, control))]


def test_the_first_sentence_follows_the_verdicts():
    assert readings.outcome([])[0].startswith("Nothing has been measured")
    good = readings.outcome(rows("reproduced", "reproduced"))[0]
    assert "from every checkpoint: reproduced at `digits`; " in good and "2 of 2 checkpoints." in good
    bad = readings.outcome(rows("refuted", "refuted"))[0]
    assert ": refuted at `digits`; " in bad
    assert "0 of 2 checkpoints, so that the term is not shown to be why" in bad
    several = readings.outcome(
        rows("reproduced", "refuted")
        + rows("refuted", "undecided", "b")
        + rows("undecided", "not tested at this scale", "c")
        + rows("refuted", "not tested at this scale", "d")
    )
    assert ": reproduced at `digits`, refuted at `b` and `d` and undecided at `c`; " in several[0]
    assert "1 of 4 checkpoints." in several[0]
    assert several[-1].startswith(
        "6 verdicts at 4 scales: 1 “reproduced”, 3 “refuted” and 2 “undecided”; 2 more could not be tested"
    )


def test_the_first_sentence_says_whether_another_gradient_does_as_well():
    beats, control = rows("reproduced", "reproduced")
    instead = {**control, "id": readings.KEY[2]}
    both = readings.outcome([beats, control, instead])[0]
    assert "2 of 2 checkpoints, and beside a gradient of the bound" in both
    assert both.endswith("from 2 of 2 checkpoints.")
    instead["parts"] = [{"outcome": "undecided"}, {"outcome": "refuted"}]
    assert readings.outcome([beats, control, instead])[0].endswith(
        "from 0 of 2 checkpoints, so that the term is not shown to be why."
    )


def test_a_reading_quotes_the_verdict(page):
    report = json.loads((page.root / "results/digits/images/report/verdict.json").read_text())
    row = next(row for row in report["claims"] if row["id"] == readings.KEY[0])
    text, notes = readings.reading(row)
    assert readings.number(row["estimate"]) in text and row["where"] in text and text.endswith("3 seeds.")
    assert notes.endswith("which favours `simple_tbc` a little.")


def test_the_same_means_the_claim_before():
    claims = ["On a", "The same on b", "The same on c", "On d"]
    assert readings.same_as(claims) == [None, "On a", "On a", None]


def test_lists_in_words():
    assert [readings.listed(names) for names in ([], "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
