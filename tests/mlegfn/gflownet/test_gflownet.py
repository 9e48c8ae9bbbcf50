"""Rollouts, scores and losses: at the exact flow every balance is zero on any trajectory, and samples follow P_F."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mlegfn.gflownet.environment import Listed, Members, Unlisted
from mlegfn.gflownet.evaluation import Subsets, distance, log_terminating, sampled_distance
from mlegfn.gflownet.losses import OBJECTIVES, log_scale, objective
from mlegfn.gflownet.model import GFlowNet
from mlegfn.gflownet.policies import MLPPolicy
from mlegfn.gflownet.replay import Replay
from mlegfn.gflownet.rollout import join
from mlegfn.gflownet.training import train
from mlegfn.randomness import generator, seed_layers
from mlegfn.targets.enumeration import Enumeration, mean_deviation
from mlegfn.targets.hypergrid import Hypergrid
from mlegfn.targets.phylogeny import Phylogeny
from mlegfn.targets.sequences import Sequences
from mlegfn.targets.sets import Sets

TARGETS = {
    "hypergrid": lambda: Hypergrid(2, 4),
    "sets": lambda: Sets(5, 3),
    "sequences": lambda: Sequences(3, 3),
    "phylogeny": lambda: Phylogeny.simulated(4, 8),
}
ON_POLICY = [name for name, each in OBJECTIVES.items() if each.on_policy]
BALANCES = [name for name in OBJECTIVES if name not in ON_POLICY]


class TablePolicy(nn.Module):
    """A row of logits and a log flow a state, float64: whatever is exact can be put into it."""

    def __init__(self, target, logits=None, flow=None):
        super().__init__()
        self.target, states = target, len(target.states())
        rng = generator(0, "table")
        size = (states, target.actions)
        random = torch.randn(size, generator=rng, dtype=torch.float64)
        self.logits = nn.Parameter(random if logits is None else logits)
        self.flow = nn.Parameter(torch.zeros(states, dtype=torch.float64) if flow is None else flow)

    def inputs(self, states):
        return self.target.index(states).double()[:, None]

    def forward(self, inputs):
        row = inputs[:, 0].long()
        return self.logits[row], self.flow[row]


def exact_flow(name):
    """The GFlowNet with uniform P_B whose flow is the target's."""
    target = TARGETS[name]()
    graph = Enumeration(target)
    parents = (graph.parents >= 0).sum(1).clamp(min=1).double()
    flow, edges = graph.flow(-parents.log()[:, None].expand(-1, target.actions - 1))
    policy = TablePolicy(target, (edges - graph.log_z).nan_to_num(neginf=0.0), flow - graph.log_z)
    model = GFlowNet(policy, Listed(target, policy.inputs, graph))
    model.log_offset.data.copy_(graph.log_z)
    return model


def ways(model):
    """Trajectories by the policy, with exploration, backwards from every object, and two of these together."""
    rng = generator(0, "ways")
    objects = model.environment.graph.allowed[:, -1].nonzero()[:, 0]
    fresh = model.rollout(64, rng)
    explored, back = model.rollout(64, rng, 0.7), model.back(objects.repeat(3), rng)
    return {"policy": fresh, "explored": explored, "back": back, "joined": join(explored, back)}


@pytest.mark.parametrize("objective", BALANCES)
@pytest.mark.parametrize("target", TARGETS)
def test_at_the_exact_flow_every_balance_is_zero_on_any_trajectory(target, objective):
    """Residuals are sums of a few rounding errors of numbers below 100: 1e-13, and their squares 1e-26."""
    model = exact_flow(target)
    for way, drawn in ways(model).items():
        assert model.loss(objective, drawn).item() < 1e-20, way
        assert model.loss(objective, drawn, model.table(10**6)).item() < 1e-20, way
    model.policy.logits.data[0, 0] += 0.1
    model.policy.flow.data[1] += 0.1
    assert model.loss(objective, ways(model)["policy"]).item() > 1e-6, "and elsewhere it is not"


@pytest.mark.parametrize("objective", ON_POLICY)
def test_at_the_exact_flow_the_divergences_have_no_gradient(objective):
    model = exact_flow("hypergrid")
    drawn = ways(model)
    # ``combined`` has no variance there; the others have gradients whose mean is zero.
    model.loss(objective, drawn["policy"], control_variate="combined").backward()
    assert model.policy.logits.grad.abs().max() < 1e-12
    for way in ("explored", "back", "joined"):
        with pytest.raises(ValueError, match="expectation over the policy's own"):
            model.loss(objective, drawn[way])


@pytest.mark.parametrize("target", TARGETS)
def test_samples_follow_the_policy_and_its_exact_distribution(target):
    """20,000 rollouts of a random policy: L1 to its exact p_θ is what exact samples would have, ± 5 deviations."""
    target = TARGETS[target]()
    policy = TablePolicy(target)
    model = GFlowNet(policy, Listed(target, policy.inputs))
    log_p = log_terminating(model)
    assert log_p.logsumexp(0).abs() < 1e-12
    count = 20_000
    for exploration in (0.0, 1.0):
        if exploration:  # uniform actions
            allowed = model.environment.graph.allowed.double()
            log_p = model.environment.graph.terminating((allowed / allowed.sum(1, keepdim=True)).log())
        drawn = model.rollout(count, generator(0, "frequencies"), exploration).objects
        frequency = torch.bincount(drawn, minlength=len(log_p)) / count
        p = log_p.exp()
        floor = mean_deviation(p, count).sum()
        spread = (p * (1 - p) / count).sum().sqrt()  # the deviations are nearly independent of each other
        assert abs((frequency - p).abs().sum() - floor) < 5 * spread
        by_counts = sampled_distance(log_p, log_p, count, generator(1, "counts"))
        assert abs(by_counts - floor) < 5 * spread


@pytest.mark.parametrize("target", TARGETS)
def test_backward_trajectories_weigh_as_importance_sampling_says(target):
    """p_θ(x) = E_{τ ~ P_B(·|x)} [P_F(τ)/P_B(τ|x)], so their log P_F and log P_B are right; within 5 errors."""
    target = TARGETS[target]()
    policy = TablePolicy(target)
    model = GFlowNet(policy, Listed(target, policy.inputs))
    objects, count = model.environment.graph.allowed[:, -1].nonzero()[:, 0], 2000
    with torch.no_grad():
        drawn = model.back(objects.repeat_interleave(count), generator(0, "back"))
        log_pf, log_pb, reward = model.score(drawn).sums
    weight = (log_pf - log_pb).exp().view(-1, count)
    error = weight.std(1) / count**0.5 + 1e-12
    assert ((weight.mean(1) - log_terminating(model)[objects].exp()).abs() < 5 * error).all()
    assert torch.equal(reward.view(-1, count)[:, 0], model.environment.graph.log_reward[objects])


@pytest.mark.parametrize("target", TARGETS)
def test_listed_unlisted_and_tabulated_states_give_the_same(target):
    target = TARGETS[target]()
    with torch.random.fork_rng([]):
        seed_layers(0, "same")
        policy = MLPPolicy(target, 16).double()
    listed = GFlowNet(policy, Listed(target, policy.inputs))
    unlisted = GFlowNet(policy, Unlisted(target, policy.inputs))
    table = listed.table(10**6)
    assert listed.table(1) is None and unlisted.table(10**6) is None
    drawn = [
        model.rollout(32, generator(0, "same"), 0.2, given)
        for model, given in ((listed, None), (listed, table), (unlisted, None))
    ]
    states = listed.environment.graph.states
    for other in drawn[1:]:
        assert torch.equal(drawn[0].actions, other.actions)
    assert torch.equal(states[drawn[0].objects], drawn[2].objects)
    for name in BALANCES:
        losses = [
            model.loss(name, each, given).item()
            for model, each, given in zip((listed, listed, unlisted), drawn, (None, table, None))
        ]
        assert losses == pytest.approx([losses[0]] * 3, rel=1e-10)


def test_sets_too_large_to_list_are_measured_exactly():
    """On sets that can be listed, p_θ by subsets is p_θ by dynamic programming, and the estimate of L1 is right."""
    target = Sets(8, 4)
    policy = MLPPolicy(target, 16).double()
    model = GFlowNet(policy, Listed(target, policy.inputs))
    subsets = Subsets(target, 500)
    log_p = log_terminating(model)
    torch.testing.assert_close(subsets.log_prob(policy), log_p[target.index(subsets.x)], rtol=0, atol=1e-10)
    estimate, error = subsets.distance(policy)
    assert abs(estimate - distance(log_p, model.environment.graph.log_prob)) < 5 * error


def settings(**changed):
    usual = {"steps": 300, "batch": 64, "lr": 0.08, "log_z_lr": 0.1}
    usual |= {"exploration": 0.0, "replay": 0.0, "capacity": 500}
    return SimpleNamespace(**usual | changed)


def trained(objective, **changed):
    target = Hypergrid(2, 4)
    policy = TablePolicy(target)
    model = GFlowNet(policy, Listed(target, policy.inputs))
    train(model, objective, settings(**changed), "test")
    return model


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_reaches_its_target(objective):
    """Exact L1 at most twice that of 10,000 samples of a perfect model."""
    model = trained(objective)
    graph = model.environment.graph
    assert distance(log_terminating(model), graph.log_prob) <= 2 * graph.sampling_floor(10_000)
    assert (model.log_z(objective) is None) == (not OBJECTIVES[objective].log_z)
    if OBJECTIVES[objective].log_z:
        assert abs(model.log_z(objective) - graph.log_z) < 0.05


def test_log_z_of_flow_matching_is_the_flow_out_of_the_source():
    """Whatever the offset of all flows is: the same edges with another offset have another log_offset, and one log Z."""
    for target in TARGETS:
        model = exact_flow(target)
        for shift in (0.0, 2.2):
            model.policy.logits.data += shift
            model.log_offset.data -= shift
            assert model.log_z("flow_matching") == pytest.approx(
                model.environment.graph.log_z.item(), abs=1e-12
            )
        assert abs(model.log_offset.item() - model.environment.graph.log_z) > 2
        members = getattr(model.environment.target, "elements", None)
        if members:  # sets whose states are not listed: the same edges
            policy = MLPPolicy(model.environment.target, 16)
            pair = (
                GFlowNet(policy, Listed(model.environment.target, policy.inputs)),
                GFlowNet(policy, Members(model.environment.target)),
            )
            assert pair[0].log_z("flow_matching") == pytest.approx(pair[1].log_z("flow_matching"), abs=1e-5)
    with pytest.raises(ValueError, match="no objective 'fm'"):
        model.log_z("fm")


@pytest.mark.parametrize("objective", BALANCES)
def test_off_policy_training_reaches_it_too(objective):
    model = trained(objective, exploration=0.3, replay=0.5)
    graph = model.environment.graph
    assert distance(log_terminating(model), graph.log_prob) <= 2 * graph.sampling_floor(10_000)


@pytest.mark.parametrize("objective", ON_POLICY)
@pytest.mark.parametrize("share", ("exploration", "replay"))
def test_divergences_refuse_what_another_policy_drew(objective, share):
    with pytest.raises(ValueError, match="use one of trajectory_balance"):
        trained(objective, **{share: 0.1})


@pytest.mark.parametrize("objective", ("forward_kl", "tsallis"))
def test_the_scale_of_an_initial_batch_changes_nothing_but_the_length(objective):
    """Of one batch's gradient; Adam hardly sees it, and training ends at the target too."""
    model = exact_flow("sequences")
    model.policy.logits.data += 0.3 * torch.randn(model.policy.logits.shape, generator=generator(0)).double()
    first, second = (model.rollout(64, generator(0, k)) for k in range(2))
    scale = log_scale(objective, model.score(first))
    slopes = []
    for options in ({}, {"log_scale": scale}):
        (slope,) = torch.autograd.grad(model.loss(objective, second, **options), model.policy.logits)
        slopes.append(slope)
    factor = (slopes[0] * slopes[1]).sum() / slopes[1].square().sum()
    torch.testing.assert_close(slopes[0], factor * slopes[1])
    assert abs(factor.log()) > 1e-3
    target = Hypergrid(2, 4)
    policy = TablePolicy(target)
    other = GFlowNet(policy, Listed(target, policy.inputs))
    train(other, objective, settings(), "test", log_scale="initial")
    graph = other.environment.graph
    assert distance(log_terminating(other), graph.log_prob) <= 2 * graph.sampling_floor(10_000)


def test_training_is_a_function_of_its_seed():
    first, second = (trained("renyi", steps=3).policy.logits for _ in range(2))
    assert torch.equal(first, second)


def test_a_replay_buffer_keeps_the_last_and_draws_evenly():
    replay = Replay(4)
    with pytest.raises(ValueError, match="empty"):
        replay.draw(1, generator(0))
    replay.add(torch.arange(3))
    replay.add(torch.arange(3, 6))
    counts = torch.bincount(replay.draw(4000, generator(0)), minlength=6)
    assert counts[:2].sum() == 0
    assert (counts[2:] - 1000).abs().max() < 5 * 1000**0.5
    with pytest.raises(ValueError, match="at least one"):
        Replay(0)


def test_the_divergences_alone_are_on_policy():
    assert set(ON_POLICY) == {"reverse_kl", "forward_kl", "renyi", "tsallis"}
    with pytest.raises(ValueError, match="no objective 'tb'"):
        objective("tb")
