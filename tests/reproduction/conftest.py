"""The scale smoke, run once for all tests of a session."""

import pytest
from filelock import FileLock
from helpers.checkout import Checkout


@pytest.fixture(scope="session")
def smoke(tmp_path_factory, worker_id):
    """A finished checkout of the scale smoke, for all workers one: copy it before you change anything."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    with FileLock(shared / "smoke.lock"):
        if not (shared / "smoke.done").exists():
            checkout = Checkout.new(shared / "smoke")
            checkout.reproduce()
            checkout.commit("smoke")
            (shared / "smoke.done").touch()
    return Checkout(shared / "smoke")


@pytest.fixture
def checkout(smoke, tmp_path):
    """A copy of the finished checkout, to change."""
    return smoke.copy(tmp_path / "checkout")
