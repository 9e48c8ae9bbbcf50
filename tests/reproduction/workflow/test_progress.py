"""How long a run will still take, and what it says meanwhile."""

import io

import pytest

from reproduction.workflow import progress
from reproduction.workflow.progress import Progress, in_words, remaining

KNOWN = {"nll@s-1": 10.0, "nll@s-2": 30.0, "planar@s-a": 100.0}


def test_time_left_by_what_stages_took_before():
    assert remaining(["nll@s-1", "planar@s-a"], {}, 1, KNOWN) == 110
    assert remaining(["nll@s-1", "nll@s-2"], {}, 2, KNOWN) == 30, "the longest is not shared out"
    assert remaining(["nll@s-1"], {"planar@s-a": 40.0}, 1, KNOWN) == 70
    assert remaining(["nll@s-1"], {"planar@s-a": 400.0}, 1, KNOWN) == 10, "longer than ever: about to end"
    assert remaining(["nll@s-3"], {}, 1, KNOWN) == 20, "as others of its kind"
    assert remaining(["bits@s-3"], {}, 1, KNOWN) == pytest.approx(140 / 3), "as any other"
    assert remaining([], {}, 1, KNOWN) == 0
    assert remaining(["nll@s-1"], {}, 1, {}) is None


def test_time_left_by_how_fast_this_run_is():
    hours = {name: 3600 * seconds for name, seconds in KNOWN.items()}
    half_as_fast = remaining(["nll@s-2", "planar@s-a"], {}, 1, hours, {"nll@s-1": 2 * hours["nll@s-1"]})
    assert half_as_fast == pytest.approx(2 * 3600 * 130, rel=0.01)
    # A stage that computes nothing has to start, too: that is no pace.
    short = {"fetch@s": 0.1, "planar@s-a": 100.0}
    assert remaining(["planar@s-a"], {}, 1, short, {"fetch@s": 8.0}) < 120
    assert remaining(["nll@s-9"], {}, 1, {}, {"nll@s-1": 20.0}) == 20


def test_time_in_words():
    words = [in_words(seconds) for seconds in (3.4, 90, 600, 7200, 12_000)]
    assert words == ["3 s", "90 s", "10 min", "120 min", "3 h 20 min"]


def test_a_line_for_each_finished_stage(monkeypatch):
    now, stream = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(["nll@s-1", "nll@s-2", "planar@s-a"], 1, {**KNOWN, "nll@s-2": 40.0}, stream) as shown:
        shown.update([], ["nll@s-1"])
        now[0] = 10.0
        shown.update(["nll@s-1"], ["nll@s-2"])  # 40 s of it are left and 100 s of the third
        shown.update(["nll@s-1"], ["nll@s-2"])
        now[0] = 30.0
        shown.update(["nll@s-1"], ["planar@s-a"])  # DVC still records the second
        now[0] = 50.0
        shown.update(["nll@s-1", "nll@s-2"], ["planar@s-a"])
        shown.update(["nll@s-1", "nll@s-2", "planar@s-a"], [])
    assert stream.getvalue().splitlines() == [
        "[1/3] nll@s-1  10 s, about 2 min left",
        "[2/3] nll@s-2  50 s, about 80 s left",
        "[3/3] planar@s-a  50 s, about 0 s left",
    ]
