"""Values of divergences on six trajectories: in a batch that holds each as often as P_F says, a mean is the expectation."""

import math

import pytest
import torch
from helpers.dag import Dag, every

from mlegfn.objectives import divergence_values
from mlegfn.objectives.divergence_values import (
    estimated_log_z,
    forward_kl_value,
    renyi_value,
    reverse_kl_value,
    tsallis_value,
)
from mlegfn.randomness import generator

ALPHAS = (-2.0, -0.5, 0.5, 2.0)
LOG_SHIFT = 3.0  # of log R, so that log Z is far from 0
VALUES = [
    ("reverse_kl", None, reverse_kl_value),
    ("forward_kl", None, forward_kl_value),
    *(("renyi", alpha, renyi_value) for alpha in ALPHAS),
    *(("tsallis", alpha, tsallis_value) for alpha in ALPHAS),
]


@pytest.fixture
def batch():
    """(arguments of ten trajectories, P_F [6], p̄_B [6], log Z)."""
    dag = Dag()
    rows = every(dag)
    log_reward = dag.log_reward + LOG_SHIFT
    arguments = dag.log_pf[rows], dag.log_pb[rows], log_reward[rows]
    joint = log_reward + dag.log_pb
    return arguments, dag.log_pf.detach().exp(), joint.softmax(0), joint.logsumexp(0).item()


def closed_form(name, alpha, p, target):
    """The divergence of p from the target, from its definition."""
    if name == "reverse_kl":
        return (p * (p / target).log()).sum().item()
    if name == "forward_kl":
        return (target * (target / p).log()).sum().item()
    integral, sign = (p**alpha * target ** (1 - alpha)).sum().item(), math.copysign(1, alpha)
    return sign * (math.log(integral) if name == "renyi" else integral - 1) / (alpha - 1)


def of(function, arguments, alpha, log_z):
    options = {} if alpha is None else {"alpha": alpha}
    return function(*arguments, log_z=log_z, **options)


@pytest.mark.parametrize("name, alpha, function", VALUES)
def test_values_are_those_of_the_definition(batch, name, alpha, function):
    """With log Z, and with its estimate, which is exact on such a batch."""
    arguments, p, target, log_z = batch
    want = closed_form(name, alpha, p, target)
    assert want > 0.05
    for given in (log_z, torch.tensor(log_z, dtype=torch.float64), None):
        value = of(function, arguments, alpha, given)
        assert value.dtype == torch.float64 and value.shape == () and not value.requires_grad
        assert value.item() == pytest.approx(want, rel=1e-12)
    # An unnormalised reward taken for a normalised one, the other direction, another order: other numbers.
    assert abs(of(function, arguments, alpha, 0.0).item() - want) > 0.01
    for other, beta, wrong in VALUES:
        if (other, beta) != (name, alpha):
            assert abs(of(wrong, arguments, beta, log_z).item() - want) > 1e-3, (other, beta)


@pytest.mark.parametrize("name, alpha, function", VALUES)
def test_a_policy_at_the_target_has_none(name, alpha, function):
    dag = Dag()
    log_pf = dag.log_target
    assert abs(of(function, (log_pf, dag.log_pb, dag.log_reward), alpha, None).item()) < 1e-14


def test_log_z_is_the_mean_of_the_weights(batch):
    arguments, _, _, log_z = batch
    assert estimated_log_z(*arguments).item() == pytest.approx(log_z, rel=1e-13)


def test_what_is_said_of_the_bias(batch):
    """Over 2,000 batches of four: unbiased where it says so, too small where it says so, within 0 … log N."""
    (log_pf, log_pb, log_reward), p, target, log_z = batch
    rows = torch.randint(len(log_pf), (2_000, 4), generator=generator(0, "batches"))
    tables = [x.detach()[rows] for x in (log_pf, log_pb, log_reward)]

    def mean(function, given):
        values = torch.stack([function(*row, log_z=given) for row in zip(*tables, strict=True)])
        return values.mean().item(), (values.std() / len(values) ** 0.5).item(), values

    want = closed_form("reverse_kl", None, p, target)
    value, error, values = mean(reverse_kl_value, log_z)
    assert abs(value - want) < 4 * error and values.min() < 0
    value, error, values = mean(reverse_kl_value, None)
    assert value < want - 10 * error and values.min() > -1e-12
    value, error, _ = mean(tsallis_value, log_z)
    assert abs(value - closed_form("tsallis", 0.5, p, target)) < 4 * error
    _, _, values = mean(forward_kl_value, None)
    assert values.min() > -1e-12 and values.max() <= math.log(4)


def test_an_unvisited_mode_is_not_seen_without_log_z(batch):
    """A policy that takes the first three trajectories alone, in the target's proportions."""
    arguments, _, target, log_z = batch
    dag = Dag()
    visited = target[:3] / target[:3].sum()
    seen = torch.arange(3)
    arguments = visited.log(), dag.log_pb[seen], dag.log_reward[seen] + LOG_SHIFT
    missed = -target[:3].sum().log().item()
    assert missed > 0.1
    for function in (reverse_kl_value, renyi_value):
        assert function(*arguments, log_z=log_z).item() == pytest.approx(missed, rel=1e-12)
        assert abs(function(*arguments).item()) < 1e-12


def test_computed_in_float64_whatever_comes_in():
    """Log-rewards near −10⁵ with differences of 10⁻³ nats that float32 holds: their logsumexp would not, there."""
    log_pf = torch.tensor([0.25, 0.75]).log()
    log_reward = torch.tensor([-100_000.0, -100_001.0])
    exact = [x.double() for x in (log_pf, torch.zeros(2), log_reward)]
    assert reverse_kl_value(log_pf, torch.zeros(2), log_reward) == reverse_kl_value(*exact)


@pytest.mark.parametrize("function", [getattr(divergence_values, name) for name in divergence_values.__all__])
def test_misuse_is_refused(function):
    x = torch.zeros(3)
    with pytest.raises(ValueError, match="shapes do not match"):
        function(x, x, torch.zeros(4))
    with pytest.raises(ValueError, match=r"log_pf must be \[N\]"):
        function(x[None], x, x)
    with pytest.raises(ValueError, match="there is none"):
        function(x[:0], x[:0], x[:0])
    with pytest.raises(ValueError, match="a reward or flow is zero"):
        function(x, x, x - torch.inf)
    if function is not estimated_log_z:
        with pytest.raises(ValueError, match="log_z must be finite"):
            function(x, x, x, log_z=math.inf)
    if function in (renyi_value, tsallis_value):
        for alpha in (0, 1.0):
            with pytest.raises(ValueError, match="the limits at 1 and at 0"):
                function(x, x, x, alpha)
