"""One run at a time in a checkout, by a lock that dies with its process."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.workflow import run_lock

HOLD = """
import time
from reproduction.workflow.run_lock import only_one
with only_one("restore"):
    print(flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_killed_run_leaves_no_lock_and_a_living_one_is_named():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    owner = subprocess.Popen([sys.executable, "-c", HOLD], env=environment, stdout=subprocess.PIPE)
    owner.stdout.readline()
    named = rf"another `mlegfn restore` \(process {owner.pid} on "
    with pytest.raises(UserError, match=named), run_lock.only_one("x"):
        pass
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    with run_lock.only_one("x"):
        pass


def test_a_lock_is_let_go_after_an_error():
    with pytest.raises(KeyError), run_lock.only_one("x"):
        raise KeyError
    with run_lock.only_one("x"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_refused(number, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(UserError, match="no file locks"), run_lock.only_one("x"):
        pass


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_lock_that_cannot_be_written_is_not_blamed_on_locks(number, monkeypatch):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(OSError) as raised, run_lock.only_one("x"):
        pass
    assert raised.value.errno == number
