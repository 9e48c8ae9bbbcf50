"""The continuous GFlowNet: exact models have zero loss, objectives refuse points that they are not valid for."""

from types import SimpleNamespace

import pytest
import torch

from mlegfn.gflownet.continuous import ContinuousGFlowNet
from mlegfn.gflownet.coordinates import CoordinatePolicy
from mlegfn.gflownet.jensen_shannon import jensen_shannon
from mlegfn.gflownet.losses import OBJECTIVES
from mlegfn.gflownet.training import train
from mlegfn.randomness import generator, seed_layers
from mlegfn.targets.mixture import GaussianMixture

LOG_Z = 1.7
ON_POLICY = [name for name, objective in OBJECTIVES.items() if objective.on_policy]


class Own:
    """The target whose density is that of a policy, and Z = e^LOG_Z."""

    box = (torch.full((2,), -2.0), torch.full((2,), 2.0))

    def __init__(self, policy):
        self.policy = policy

    def log_reward(self, x):
        with torch.no_grad():
            return self.policy.log_prob(x).sum(1) + LOG_Z


class Exact(CoordinatePolicy):
    """With the flow that its own density has: F(s_1)/Z = p(x_1)."""

    def log_flow(self, x):
        return torch.nn.functional.pad(self.log_prob(x).cumsum(1)[:, :-1], (1, 0))


def exact_model():
    with torch.random.fork_rng([]):
        seed_layers(0, "continuous")
        policy = Exact(2, 8, 3, dtype=torch.float64)
    model = ContinuousGFlowNet(policy, Own(policy))
    model.log_offset.data.fill_(LOG_Z)
    return model


def ways(model):
    rng = generator(0, "points")
    fresh, explored = model.rollout(32, rng), model.rollout(32, rng, 0.5)
    back = model.back(fresh.objects, rng)
    return {"policy": fresh, "explored": explored, "back": back, "joined": model.join(explored, back)}


@pytest.mark.parametrize(
    "objective", [name for name in OBJECTIVES if name not in (*ON_POLICY, "flow_matching")]
)
def test_where_policy_and_target_agree_every_balance_is_zero_on_any_points(objective):
    model = exact_model()
    for way, points in ways(model).items():
        assert model.loss(objective, points).item() < 1e-20, way
    model.target.log_reward = lambda x: model.policy.log_prob(x).sum(1).detach() + LOG_Z + 0.1 * x[:, 0]
    assert model.loss(objective, ways(model)["policy"]).item() > 1e-6, "and elsewhere it is not"


@pytest.mark.parametrize("objective", ON_POLICY)
def test_divergences_are_of_the_policy_s_own_points(objective):
    model = exact_model()
    points = ways(model)
    model.loss(objective, points["policy"]).backward()
    assert max(p.grad.abs().max() for p in model.policy.head.parameters()) < 1e-12
    for way in ("explored", "back", "joined"):
        with pytest.raises(ValueError, match="expectation over the policy's own"):
            model.loss(objective, points[way])


def test_flow_matching_has_no_list_of_actions_to_sum():
    model = exact_model()
    with pytest.raises(ValueError, match="no list"):
        model.loss("flow_matching", ways(model)["policy"])


def test_exploration_draws_its_share_from_the_box():
    """Within 5 standard deviations of the share that the policy itself leaves where it hardly goes."""
    target = GaussianMixture()
    with torch.random.fork_rng([]):
        seed_layers(0, "narrow")
        policy = CoordinatePolicy(2, 8, 3, spread=0.5)
    drawn = ContinuousGFlowNet(policy, target).rollout(4000, generator(0), 0.25).objects
    far = (drawn.abs() > 4).any(1).double().mean()
    side = target.box[1][0].item()
    expected = 0.25 * (1 - (4 / side) ** 2)
    assert abs(far - expected) < 5 * (expected * (1 - expected) / 4000) ** 0.5


@pytest.mark.parametrize("objective", ("tsallis", "trajectory_balance"))
def test_it_trains(objective):
    """A target of one mode: JSD below that of 1,000 exact samples in 50 × 50 bins, with replay where it is valid."""
    target = GaussianMixture(side=1)
    with torch.random.fork_rng([]):
        seed_layers(0, "trains")
        model = ContinuousGFlowNet(CoordinatePolicy(2, 16, 2, spread=2.0), target)
    replay = 0.0 if objective in ON_POLICY else 0.3
    settings = {"steps": 400, "batch": 128, "lr": 0.01, "log_z_lr": 0.1, "exploration": 0.0, "replay": replay}
    train(model, objective, SimpleNamespace(**settings, capacity=500), "test")
    assert jensen_shannon(model.policy, target, 100).value < 0.02
