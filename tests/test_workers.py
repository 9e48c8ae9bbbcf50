"""benchmarks/workers.py: processes that take turns, and what happens when one fails."""

import sys
import time

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import workers

CODE = """
import sys, time
sys.path.insert(0, {folder!r})
from workers import serve
def fail():
    raise RuntimeError("out of luck")
serve({{"add": lambda a, b: a + b, "fail": fail, "sleep": lambda: time.sleep(60)}})
"""


@pytest.fixture
def make(tmp_path):
    made = []

    def worker(name="one"):
        code = CODE.format(folder=str(REPOSITORY / "benchmarks"))
        made.append(workers.Worker(name, [sys.executable, "-c", code], tmp_path / f"{name}.log"))
        return made[-1]

    yield worker
    for one in made:
        one.close()


def test_a_worker_answers_again_and_again(make):
    worker = make()
    assert [worker.ask({"do": "add", "a": 1, "b": b}, 30) for b in (1, 2)] == [2, 3]


def test_a_crash_and_a_hang_cost_their_own_row_only(make):
    crashed, hung, well = make("crashed"), make("hung"), make("well")
    assert crashed.ask({"do": "fail"}, 30) is None
    assert crashed.failure == "RuntimeError: out of luck"
    assert hung.ask({"do": "sleep"}, 0.5) is None
    assert "sleep within" in hung.failure and hung.process.poll() is not None
    assert hung.ask({"do": "add", "a": 1, "b": 1}, 30) is None
    answers = workers.ready(
        [crashed, hung, well], lambda _: {"do": "add", "a": 2, "b": 2}, time.monotonic() + 30, at_once=2
    )
    assert answers == {"well": 4}
