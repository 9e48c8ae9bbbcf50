"""Mistakes in the block `divergences` of params.yaml: one line each, naming its key."""

import json
from pathlib import Path

import pytest
import yaml

from mlegfn.config import load
from mlegfn.errors import UserError

RAW = yaml.safe_load(Path("params.yaml").read_text())["scales"]["digits"]


def errors(tmp_path, change):
    """The lines of the error of the scale `digits` after ``change`` of its block; none if there is none."""
    scale = json.loads(json.dumps(RAW))  # nothing is shared, so that no error is told at another's place
    change(scale["divergences"])
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"scales": {"digits": scale}}))
    try:
        load(tmp_path / "params.yaml")
    except UserError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    "path, value, said",
    [
        ("tasks.hypergrid.alpha", 1.0, "must not be 1: that is the KL divergence"),
        ("tasks.hypergrid.alpha", 0.0, "must not be 0"),
        ("tasks.hypergrid.exploration", 0.1, "are expectations over the policy's own trajectories"),
        ("tasks.sequences.replay", 0.5, "are expectations over the policy's own trajectories"),
        ("tasks.sets.size", 13, "must be at most elements, 12"),
        ("tasks.sets.batch", 1, "≥ 2"),
        ("tasks.sets.objectives", ["renyi", "renyi"], "names something twice"),
        ("tasks.mixture.objectives", ["flow_matching"], "a continuous policy has no list"),
        ("tasks.phylogeny.species", 9, "≤ 8"),
        ("tasks.banana.evaluations", 301, "must be at most steps, 300"),
        ("alpha.alphas", [0.5, 1.0], "must not be 1"),
        ("alpha.alphas", [0.5, 0.5], "names something twice"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, path, value, said):
    def change(block):
        *inner, last = path.split(".")
        for key in inner:
            block = block[key]
        block[int(last) if isinstance(block, list) else last] = value

    (line,) = errors(tmp_path, change)
    assert f"params.yaml: scales.digits.divergences.{path}: " in line and said in line


def test_balance_objectives_may_explore(tmp_path):
    def change(block):
        objectives = ["trajectory_balance", "f_tsallis"]
        block["tasks"]["hypergrid"] |= {"objectives": objectives, "exploration": 0.1, "replay": 0.5}

    assert errors(tmp_path, change) == []


def test_an_unknown_objective_is_told_what_there_is(tmp_path):
    (line,) = errors(tmp_path, lambda block: block["tasks"]["sets"].update(objectives=["tb"]))
    assert "tasks.sets.objectives" in line and "trajectory_balance" in line and "got 'tb'" in line


@pytest.mark.parametrize("absent", ("null", "delete"))
def test_tasks_may_be_absent_but_not_all_and_gradients_are_of_one_that_is_there(tmp_path, absent):
    def change(block):
        block["gradients"]["sequences"] = block["gradients"]["sets"]
        if absent == "null":
            block["tasks"] |= {"sets": None, "banana": None}
        else:
            del block["tasks"]["sets"], block["tasks"]["banana"]

    (line,) = errors(tmp_path, change)
    assert "gradients: sets: no such task in `tasks`" in line
    (line, *_) = errors(tmp_path, lambda block: block.update(tasks={}))
    assert "tasks: must have one of hypergrid" in line
