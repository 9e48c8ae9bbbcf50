"""Mistakes in the block `divergences` of params.yaml: one line each, naming its key."""

import json

import pytest
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.divergences.settings import Divergences
from reproduction.params import read
from reproduction.settings.validation import validate

RAW = read(REPOSITORY / "params.yaml")["divergences"]["digits"]


def errors(change):
    """The lines of the error after ``change`` of the block of the scale `digits`; none if there is none."""
    block = json.loads(json.dumps(RAW))  # nothing is shared
    change(block)
    try:
        validate(Divergences, block, "params.yaml")
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
def test_a_mistake_is_one_line(path, value, said):
    def change(block):
        *inner, last = path.split(".")
        for key in inner:
            block = block[key]
        block[int(last) if isinstance(block, list) else last] = value

    (line,) = errors(change)
    assert f"params.yaml: {path}: " in line and said in line


def test_balance_objectives_may_explore():
    def change(block):
        objectives = ["trajectory_balance", "f_tsallis"]
        block["tasks"]["hypergrid"] |= {"objectives": objectives, "exploration": 0.1, "replay": 0.5}

    assert errors(change) == []


def test_an_unknown_objective_is_answered_by_those_that_exist():
    (line,) = errors(lambda block: block["tasks"]["sets"].update(objectives=["tb"]))
    assert "tasks.sets.objectives" in line and "trajectory_balance" in line and "got 'tb'" in line


@pytest.mark.parametrize("absent", ("null", "delete"))
def test_tasks_may_be_absent_but_not_all_and_gradients_are_of_a_listed_one(absent):
    def change(block):
        block["gradients"]["sequences"] = block["gradients"]["sets"]
        if absent == "null":
            block["tasks"] |= {"sets": None, "banana": None}
        else:
            del block["tasks"]["sets"], block["tasks"]["banana"]

    (line,) = errors(change)
    assert "gradients: sets: no such task in `tasks`" in line
    (line, *_) = errors(lambda block: block.update(tasks={}))
    assert "tasks: must have one of hypergrid" in line
