"""Which stages run now: those that hold their log, whatever process numbers say."""

import time

import pytest

from reproduction.workflow import running


def test_a_stage_holds_its_log_as_long_as_it_lives(tmp_path):
    log = tmp_path / "a.log"
    assert not running.held(log)
    with open(log, "a") as file, open(log, "a") as rank:
        running.hold(file)
        running.hold(rank)  # the ranks of a stage hold it together
        assert running.held(log)
        file.close()
        assert running.held(log)
    assert not running.held(log)


def test_process_numbers_are_not_believed(tmp_path, monkeypatch):
    """A log that names process 1, which lives, and has no end: nothing holds it, so nothing runs."""
    monkeypatch.chdir(tmp_path)
    log = running.log_path("a@s")
    log.parent.mkdir(parents=True)
    log.write_text("\n=== 2026-01-01 00:00:00 mlegfn stage a (process 1)\n")
    assert running.stages(["a@s"]) == {} and running.names(["a@s", "b@s"]) == []


@pytest.mark.parametrize(
    "text, last",
    [
        ("", ""),
        ("\n=== 2026-01-02 03:04:05 mlegfn stage x\n", ""),
        (
            "\n=== 2026-01-01 00:00:00 x\nold\n=== exit 0 after 1 s\n\n=== 2026-01-02 03:04:05 x\na\r b \r",
            "b",
        ),
    ],
)
def test_what_a_log_says(tmp_path, text, last):
    log = tmp_path / "a.log"
    log.write_text(text)
    found = running.look("a", log)
    assert found.last_line == last
    begun = time.mktime(time.strptime("2026-01-02 03:04:05", "%Y-%m-%d %H:%M:%S"))
    assert found.since == (begun if text else None) and (found.seconds is None) == (not text)


def test_logs_are_of_a_scale():
    assert (
        str(running.log_path("finetune@cifar10_hour-simple_tbc"))
        == "results/cifar10_hour/logs/finetune@cifar10_hour-simple_tbc.log"
    )
