"""Every setting of the planar problems, changed, reaches what depends on it."""

from dataclasses import replace

import pytest
from helpers.every_setting import Pipeline, finished

from reproduction.planar.settings import Planar

TINY = {
    "seeds": [0],
    "pretrain_steps": 4,
    "finetune_steps": 3,
    "optimizer.warmup": 3,
    "consistency.chain": "respaced",
    "consistency.chain_steps": 3,
    "consistency.gradient": "subsampled",
    "consistency.loss": "huber",
    "consistency.huber_delta": 0.5,
    "consistency.weight": 0.1,
    "consistency.weight_warmup": 3,
    "mmd_points": 8,
}
PIPELINE = Pipeline(
    "planar",
    Planar,
    changes=TINY,
    skipped={"checkerboard"},
    others={
        "arms": ["simple", "vlb_tbc", "vlb"],
        "consistency.chunk": 3,
        "importance_samples": 6,  # 12 are more than the cap
        "importance_samples_cap": 16,
        "precision": 1000.0,  # any number of trajectories is enough
    },
    refused={"consistency.policy": ("backward", "consistency.policy: expected forward")},
    same={"diffusion.decoder": "of images"},
    rounding={"consistency.chunk": "how many states are evaluated at once"},
    echoes={"points", "precision", "timesteps"},
)
# With the exact gradient the arms without the term pay for a second pass, where one chunk does not hold all states.
EXACT = replace(PIPELINE, changes=TINY | {"consistency.gradient": "exact"}, rounding={})
former, exact = finished(PIPELINE), finished(EXACT)


@pytest.mark.parametrize("key", PIPELINE.keys)
def test_every_setting_reaches_what_depends_on_it(former, key, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check(key)


def test_so_does_the_size_of_a_chunk(exact, tmp_path, monkeypatch):
    monkeypatch.chdir(exact.copy(tmp_path / "copy"))
    exact.check("consistency.chunk")
