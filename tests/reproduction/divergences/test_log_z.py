"""What the metrics call log Z is log Z: on a grid of 16 objects, for every objective that learns it."""

from functools import cache, partial

import pytest
from helpers.repository import REPOSITORY

from mlegfn.gflownet.losses import OBJECTIVES
from reproduction.divergences import train
from reproduction.divergences.report.tables import table
from reproduction.divergences.settings import Divergences
from reproduction.divergences.tasks import new_task
from reproduction.params import read
from reproduction.settings.validation import validate


@cache
def grid():
    """(settings, task)."""
    block = read(REPOSITORY / "params.yaml")["divergences"]["smoke"]
    block["tasks"]["hypergrid"] |= {"side": 4, "steps": 400, "batch": 64, "hidden": 32, "lr": 0.02}
    settings = validate(Divergences, block, "params.yaml").tasks.hypergrid
    return settings, new_task("hypergrid", settings)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_is_that_of_the_target(objective, monkeypatch):
    settings, task = grid()
    models, fit = [], train.fit

    def kept(*arguments):
        model, curve = fit(*arguments)
        models.append(model)
        return model, curve

    monkeypatch.setattr(train, "fit", kept)
    value, _ = train.measure("hypergrid", lambda: task, objective, settings, 0)
    if not OBJECTIVES[objective].log_z:
        assert value["log_z"] is None
        return
    assert value["log_z"] == pytest.approx(task.log_z, abs=0.1)
    if objective == "flow_matching":
        assert abs(models[0].log_offset.item() - task.log_z) > 0.5, (
            "the offset of its flows is another number"
        )


def test_the_table_has_an_error_of_each_that_learns_it(tmp_path, monkeypatch):
    from reproduction.divergences.report import metrics

    settings, task = grid()
    target, _ = train.describe("hypergrid", partial(lambda: task))
    names = ("trajectory_balance", "flow_matching", "renyi")
    chosen = settings.model_copy(update={"objectives": names, "seeds": [0]})
    runs = [
        {
            "objective": name,
            "seed": 0,
            "curve": {"step": [0, 1], "value": [1.0, 0.5]},
            "final": {"exact": 0.5, "exact_error": 0.0, "sampled": 0.5},
            "log_z": {"renyi": None}.get(name, task.log_z + 0.25),
        }
        for name in names
    ]
    shown = metrics.Metrics.__new__(metrics.Metrics)
    shown.tasks = {"hypergrid": {**target, "batch": 1, "steps": 1, "runs": runs}}
    shown.task_settings = {"hypergrid": chosen}
    errors = table(shown)["log_z_error"].tolist()
    assert errors[:2] == pytest.approx([0.25, 0.25]) and errors[2] != errors[2]
