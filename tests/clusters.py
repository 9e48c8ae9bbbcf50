"""What tests of GPU slots, ranks and clusters share."""

import os
import time


def forget_this_machine(monkeypatch, tmp_path):
    """No GPU settings of the machine that runs the tests, and lock files of the test's own."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", *(n for n in os.environ if n.startswith("MLEGFN_"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
