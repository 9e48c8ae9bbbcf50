"""Checkouts with two quick stages, in which commands of the workflow can run."""

import os

import pytest
from helpers import toy as toys


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A checkout in which DVC has run both stages and git has everything. Do not change it."""
    made = toys.make(tmp_path_factory.mktemp("toy") / "checkout")
    made.run("dvc", "repro", "--quiet", *toys.STAGES)
    made.commit()
    return made


@pytest.fixture
def toy(recorded, tmp_path, monkeypatch):
    """A copy of it that is the working directory, its environment that of this process."""
    copy = recorded.duplicate(tmp_path / "checkout")
    enter(copy, monkeypatch)
    return copy


@pytest.fixture
def untouched(tmp_path, monkeypatch):
    """The same, but nothing has run and there is neither git nor DVC."""
    (tmp_path / "checkout").mkdir()
    made = toys.lay_out(tmp_path / "checkout")
    enter(made, monkeypatch)
    return made


def enter(checkout, monkeypatch):
    """Make a checkout the working directory of this process, and its environment the one that commands have there."""
    monkeypatch.chdir(checkout.root)
    wanted = checkout.environment
    for name in set(os.environ) - set(wanted):
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
