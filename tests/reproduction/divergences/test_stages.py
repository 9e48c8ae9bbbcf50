"""The stages of the divergences: a new seed, objective, α or task costs only its own training."""

import json

import pytest
from helpers.image_stages import prepare, run_stage
from helpers.repository import REPOSITORY
from safetensors.torch import load_file

from mlegfn.artifacts import read_json
from reproduction.divergences import alpha, gradients, train
from reproduction.divergences.settings import Divergences
from reproduction.params import read
from reproduction.settings.validation import validate

BLOCKS = read(REPOSITORY / "params.yaml")["divergences"]
RAW = json.dumps(BLOCKS["smoke"])
OBJECTIVES = ["trajectory_balance", "tsallis"]
SMALL = {"points": 2, "steps": 3, "batch": 4, "hidden": 8, "evaluations": 2, "samples": 100}
SETS = {**BLOCKS["digits"]["tasks"]["sets"], **SMALL}


def settings(change=None):
    block = json.loads(RAW)
    block["tasks"]["hypergrid"] |= {"objectives": OBJECTIVES, "seeds": [0]}
    block["tasks"]["mixture"] |= {"objectives": OBJECTIVES, "seeds": [0]}
    if change:
        change(block)
    return validate(Divergences, block, "params.yaml")


@pytest.fixture
def computed(monkeypatch, tmp_path):
    """What was computed since it was last cleared: names of functions with what distinguishes the calls."""
    calls = []
    monkeypatch.chdir(prepare(tmp_path / "checkout"))

    def count(module, name, key):
        original = getattr(module, name)

        def counted(*arguments):
            calls.append(key(*arguments))
            return original(*arguments)

        monkeypatch.setattr(module, name, counted)

    count(train, "describe", lambda name, task: (name,))
    count(train, "measure", lambda name, task, objective, settings, seed: (name, objective, seed))
    count(gradients, "measure", lambda name, settings, training: ("gradients", name))
    count(
        alpha, "measure", lambda target, objective, alpha, seed, settings: ("alpha", objective, alpha, seed)
    )
    return calls


def again(computed, module, change=None, item=None):
    """What a run of the stage computes after ``change`` of the settings."""
    computed.clear()
    run_stage(module, settings(change), item)
    return list(computed)


def test_a_new_seed_or_objective_of_a_task_trains_only_itself(computed):
    def run(**changes):
        def change(block):
            block["tasks"]["hypergrid"] |= changes

        return again(computed, "divergences.train", change, "hypergrid")

    first = [("hypergrid",), *(("hypergrid", objective, 0) for objective in OBJECTIVES)]
    assert run() == first
    assert run() == []
    assert run(seeds=[0, 1]) == [("hypergrid", objective, 1) for objective in OBJECTIVES]
    path = "results/smoke/divergences/metrics/tasks/hypergrid.json"
    metrics = read_json(path)
    assert [(row["objective"], row["seed"]) for row in metrics["runs"]] == [
        (objective, seed) for seed in (0, 1) for objective in OBJECTIVES
    ]
    assert run(seeds=[0, 1], objectives=[*OBJECTIVES, "renyi"]) == [("hypergrid", "renyi", s) for s in (0, 1)]
    assert run(alpha=0.7) == [("hypergrid", "tsallis", 0)], "trajectory balance has no α"
    assert run(lr=0.02) == first[1:], "the target has no learning rate"
    assert run(side=4) == first


def test_metrics_do_not_depend_on_the_order_in_which_parts_were_made(computed):
    def seeds(*values):
        def change(block):
            block["tasks"]["mixture"] |= {"seeds": list(values)}

        return change

    folder = "results/smoke/divergences"
    again(computed, "divergences.train", seeds(1), "mixture")
    assert len(again(computed, "divergences.train", seeds(0, 1), "mixture")) == len(OBJECTIVES)
    together = read_json(f"{folder}/metrics/tasks/mixture.json")
    densities = load_file(f"{folder}/densities/mixture.safetensors")
    assert set(densities) == {"target", *OBJECTIVES}, "the target's and those of the first seed"
    again(computed, "divergences.train", seeds(0), "mixture")
    alone = read_json(f"{folder}/metrics/tasks/mixture.json")
    assert alone["runs"] == together["runs"][: len(OBJECTIVES)]
    only = load_file(f"{folder}/densities/mixture.safetensors")
    assert all(bool((only[name] == densities[name]).all()) for name in densities)


def test_gradients_of_a_new_task_are_the_only_ones_measured(computed):
    def change(block):
        block["tasks"]["sets"] = dict(SETS)
        block["gradients"]["sets"] = {**block["gradients"]["hypergrid"], "repeats": 2}

    assert again(computed, "divergences.gradients") == [("gradients", "hypergrid")]
    assert again(computed, "divergences.gradients", change) == [("gradients", "sets")]
    assert again(computed, "divergences.gradients", change) == []

    def evaluate_elsewhere(block):
        change(block)
        block["tasks"]["sets"] |= {"evaluations": 1, "steps": 2}
        block["tasks"]["hypergrid"] |= {"batch": 5}

    assert again(computed, "divergences.gradients", evaluate_elsewhere) == [("gradients", "hypergrid")]


def test_a_new_alpha_or_seed_trains_only_itself(computed):
    first = again(computed, "divergences.alpha")
    assert len(first) == 4
    more = again(computed, "divergences.alpha", lambda block: block["alpha"].update(alphas=[-2.0, 0.5, 2.0]))
    assert more == [("alpha", "tsallis", 2.0, 0)]
    seeds = again(computed, "divergences.alpha", lambda block: block["alpha"].update(seeds=[0, 3]))
    assert {call[-1] for call in seeds} == {3} and len(seeds) == 4
