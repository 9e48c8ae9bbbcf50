"""Every setting of signed λ, changed, reaches what depends on it."""

import pytest
from helpers.every_setting import Pipeline, finished

from reproduction.consistency.settings import Consistency

TINY = {
    "seeds": [0],
    "train_points": 40,
    "pretrain.steps": 4,
    "bound.steps": 8,
    "bound.points": 4,
    "bound.clip": 0.01,  # so small that it is felt
    "arms.clip": 0.01,
    "arms.points": 2,
    "test_points": 8,
}
PIPELINE = Pipeline(
    "consistency",
    Consistency,
    changes=TINY,
    others={
        "weights": [-0.3, 0.0, 0.3],
        "groups": [2, 4],
        "trajectories": 8,
        "bound.rates": [0.002, 0.001],
        "importance_samples": 6,  # 12 are more than the cap
        "importance_samples_cap": 16,
        "precision": 1000.0,  # any number of trajectories is enough
    },
    echoes={"points", "precision", "timesteps", "lr", "value", "state_evaluations"},
)
former = finished(PIPELINE)


@pytest.mark.parametrize("key", PIPELINE.keys)
def test_every_setting_reaches_what_depends_on_it(former, key, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check(key)
