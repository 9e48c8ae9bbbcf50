"""Requests to stop, and the time that a stage has to end after one."""

import os
import signal

import pytest

from reproduction.workflow.signals import asked_to_stop, grace


@pytest.mark.parametrize(
    "text, seconds", [(None, 60.0), ("5", 5.0), ("0.3", 0.3), ("-1", 0.0), ("soon", 60.0)]
)
def test_the_grace_time(monkeypatch, text, seconds):
    monkeypatch.delenv("MLEGFN_GRACE", raising=False)
    if text is not None:
        monkeypatch.setenv("MLEGFN_GRACE", text)
    assert grace() == seconds


def test_every_request_is_noted_and_handlers_are_put_back():
    before, passed = signal.getsignal(signal.SIGTERM), []
    with asked_to_stop(passed.append) as received:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert received == passed == [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before
