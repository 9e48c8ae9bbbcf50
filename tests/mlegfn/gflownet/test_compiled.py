"""The compiled walk and its gradient are those of PyTorch, and are not used where they would be wrong."""

import pytest
import torch

from mlegfn.gflownet import fast
from mlegfn.gflownet.environment import Listed, Members, Unlisted
from mlegfn.gflownet.losses import OBJECTIVES
from mlegfn.gflownet.model import GFlowNet
from mlegfn.gflownet.policies import MLPPolicy
from mlegfn.gflownet.rollout import rollout
from mlegfn.randomness import generator, seed_layers
from mlegfn.targets.hypergrid import Hypergrid
from mlegfn.targets.phylogeny import Phylogeny
from mlegfn.targets.sequences import Sequences
from mlegfn.targets.sets import Sets

TARGETS = {
    "hypergrid": lambda: Hypergrid(2, 5),
    "sets": lambda: Sets(7, 4),
    "sequences": lambda: Sequences(3, 4),
    "phylogeny": lambda: Phylogeny.simulated(5, 8),
}


def new_model(name, environment=None, layers=2, dtype=torch.float32):
    target = TARGETS[name]()
    with torch.random.fork_rng([]):
        seed_layers(0, "compiled")
        policy = MLPPolicy(target, 16, layers).to(dtype)
        for layer in policy.layers:  # far from uniform
            torch.nn.init.normal_(layer.weight, std=0.4)
    members = environment is Members
    return GFlowNet(
        policy, Members(target, dtype) if members else (environment or Listed)(target, policy.inputs)
    )


CASES = [*((name, Listed) for name in TARGETS), ("sets", Members)]


def walks(name, environment, count=50):
    model = new_model(name, environment)
    assert fast.suits(model.policy, model.environment)
    kept = model.rollout(count, generator(0, "walk"))
    plain = rollout(model.policy, model.environment, count, generator(0, "walk"))
    assert kept.activations is not None and plain.activations is None
    return model, kept, plain


@pytest.mark.parametrize("name, environment", CASES)
def test_the_walk_is_the_same(name, environment):
    """Row by row; the plain one gives rows of a step in the same order."""
    _, kept, plain = walks(name, environment)
    order = [torch.argsort(each.time * 1000 + each.owner) for each in (kept, plain)]
    for field in ("positions", "children", "actions", "owner", "time", "log_pb"):
        ours, theirs = (getattr(each, field)[rows] for each, rows in zip((kept, plain), order))
        assert torch.equal(ours, theirs), field
    for field in ("objects", "lengths", "log_reward", "on_policy"):
        ours, theirs = getattr(kept, field), getattr(plain, field)
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs, field


@pytest.mark.parametrize("objective", [name for name, each in OBJECTIVES.items() if each.flows is None])
@pytest.mark.parametrize("name, environment", CASES)
def test_loss_and_gradient_are_the_same(name, environment, objective):
    """To float32: sums of some hundred terms, relative 1e-4 of the largest."""
    model, kept, plain = walks(name, environment)
    model.guess_log_z(plain)
    found = []
    for drawn in (kept, plain):
        value = model.loss(objective, drawn)
        gradient = torch.autograd.grad(
            value, [*model.policy.parameters(), model.log_offset], allow_unused=True
        )
        found.append((value, torch.cat([g.flatten() for g in gradient if g is not None])))
    (ours, mine), (theirs, right) = found
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert (mine - right).abs().max() < 1e-4 * right.abs().max()
    assert right.abs().max() > 0


def test_activations_of_other_weights_are_not_used():
    model, kept, _ = walks("hypergrid", Listed)
    before = model.score(kept).log_pf
    with torch.no_grad():
        model.policy.layers[1].bias.add_(0.5)
    after = model.score(kept).log_pf
    torch.testing.assert_close(after, model.score(kept._replace(activations=None)).log_pf)
    assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize(
    "change",
    [{"layers": 3}, {"dtype": torch.float64}, {"environment": Unlisted}],
    ids=("layers", "dtype", "states"),
)
def test_whatever_it_cannot_take_goes_the_usual_way(change):
    model = new_model("sets", **change)
    assert model.rollout(5, generator(0)).activations is None


def test_exploration_goes_the_usual_way():
    assert new_model("sets", Members).rollout(5, generator(0), 0.1).activations is None


def test_what_is_scored_for_flows_is_not_taken_from_the_walk():
    """Detailed balance needs log F(s) of the same network: its gradient reaches the flow's row."""
    model, kept, _ = walks("hypergrid", Listed)
    model.loss("detailed_balance", kept).backward()
    assert model.policy.layers[-1].weight.grad[-1].abs().max() > 0
