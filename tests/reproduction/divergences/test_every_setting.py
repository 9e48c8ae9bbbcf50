"""Every setting of the divergences, changed, reaches what depends on it."""

import pytest
from helpers.every_setting import Pipeline, finished

from reproduction.divergences.settings import Divergences

TASKS = ("hypergrid", "mixture")
ON_POLICY = {
    "tasks.hypergrid.seeds": [0],
    **{f"tasks.{task}.objectives": ["trajectory_balance", "tsallis"] for task in TASKS},
    "gradients.hypergrid.objectives": ["reverse_kl", "tsallis"],
    "gradients.hypergrid.control_variates": ["none", "combined"],
}
REPLAYED = {
    f"tasks.{task}.{key}": value
    for task in TASKS
    for key, value in {
        "objectives": ["trajectory_balance", "f_tsallis"],
        "exploration": 0.25,
        "replay": 0.5,
        "capacity": 2,
    }.items()
}
PIPELINE = Pipeline(
    "divergences",
    Divergences,
    changes=ON_POLICY,
    others={"tasks.mixture.cells": 22, "alpha.cells": 22},
    refused={
        f"tasks.{task}.{key}": (0.5, f"tasks.{task}.{key}: must be 0, because tsallis")
        for task in TASKS
        for key in ("exploration", "replay")
    },
    same={f"tasks.{task}.capacity": "of a replay buffer, which no objective on-policy has" for task in TASKS},
)
OFF_POLICY = Pipeline(
    "divergences",
    Divergences,
    changes=ON_POLICY | REPLAYED,
    others={f"tasks.{task}.exploration": 0.9 for task in TASKS},
)
former, replayed = finished(PIPELINE), finished(OFF_POLICY)


@pytest.mark.parametrize("key", PIPELINE.keys)
def test_every_setting_reaches_what_depends_on_it(former, key, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check(key)


@pytest.mark.parametrize("key", [key for key in REPLAYED if not key.endswith("objectives")])
def test_so_do_those_of_exploration_and_replay(replayed, key, tmp_path, monkeypatch):
    monkeypatch.chdir(replayed.copy(tmp_path / "copy"))
    replayed.check(key)


@pytest.mark.parametrize("name", [stage.name for stage in PIPELINE.stages])
def test_a_stage_reads_no_setting_that_dvc_yaml_does_not_name(former, name, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check_others(name)
