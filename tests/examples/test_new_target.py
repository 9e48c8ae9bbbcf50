"""examples/new_target.py: the target is a target, and the script trains it with every objective."""

import runpy

import torch
from helpers.repository import REPOSITORY

from mlegfn.gflownet.losses import OBJECTIVES
from mlegfn.targets.enumeration import Enumeration

SCRIPT = REPOSITORY / "examples" / "new_target.py"


def test_the_knapsack_is_a_graded_graph_whose_states_are_the_sets_that_fit():
    weights = torch.tensor([30, 50, 60, 20])
    target = runpy.run_path(str(SCRIPT))["Knapsack"](weights, torch.ones(4, dtype=torch.float64))
    graph = Enumeration(target)
    assert torch.equal(target.index(graph.states), torch.arange(len(graph.states)))
    # {}, four of one, {30,50} {30,60} {30,20} {50,20} {60,20}, and {30,50,20} = 100
    assert len(graph.states) == 1 + 4 + 5 + 1
    row, action = (graph.children >= 0).nonzero(as_tuple=True)
    assert torch.equal(target.undo(graph.states[graph.children[row, action]], action), graph.states[row])
    paths = graph.every_walk()[0].shape[1]
    assert paths == 1 + 4 + 2 * 5 + 6, "each set by every order"


def test_the_script_trains_with_every_objective(capsys):
    runpy.run_path(str(SCRIPT))["main"](steps=150)
    *lines, floor = capsys.readouterr().out.splitlines()
    assert [line.split(" L1")[0].strip() for line in lines] == [each.title for each in OBJECTIVES.values()]
    assert all(float(line.split()[-1]) < 1.0 for line in lines), "from 1.5"
    assert 0 < float(floor.split()[-1]) < 0.1
