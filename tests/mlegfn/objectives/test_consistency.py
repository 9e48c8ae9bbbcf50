"""The consistency objective: a variance over trajectories, and zero where the model is exact."""

import itertools
import math

import pytest
import torch
from helpers.exact import TinyNetwork, exact_gaussian, linear_process, settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.objectives.consistency import consistency, huber_consistency
from mlegfn.randomness import generator
from mlegfn.training.chains import chain_model, sample_chain
from mlegfn.trajectory import score

QUICK = hypothesis_settings(max_examples=80, deadline=None, derandomize=True)
TABLES = st.integers(2, 5).flatmap(
    lambda m: st.lists(st.lists(st.floats(-1e3, 1e3), min_size=m, max_size=m), min_size=1, max_size=4)
)


@given(TABLES)
@QUICK
def test_consistency_is_half_the_mean_pairwise_squared_difference(rows):
    log_w = torch.tensor(rows, dtype=torch.float64)
    pairs = list(itertools.combinations(range(log_w.shape[1]), 2))
    want = 0.5 * torch.stack([(log_w[:, a] - log_w[:, b]) ** 2 for a, b in pairs]).mean(0)
    torch.testing.assert_close(consistency(log_w), want, rtol=1e-10, atol=1e-9)


@given(TABLES)
@QUICK
def test_huber_consistency_is_its_formula(rows):
    log_w = torch.tensor(rows, dtype=torch.float64)
    delta = 3.0
    want = []
    for row in log_w.tolist():
        mean = math.fsum(row) / len(row)
        sizes = [abs(v - mean) for v in row]
        parts = [r * r if r <= delta else delta * (2 * r - delta) for r in sizes]
        want.append(sum(parts) / (len(row) - 1))
    torch.testing.assert_close(
        huber_consistency(log_w, delta), torch.tensor(want, dtype=torch.float64), rtol=1e-10, atol=1e-9
    )
    torch.testing.assert_close(huber_consistency(log_w, 1e4), consistency(log_w), rtol=1e-10, atol=1e-9)


def test_huber_gradient_is_bounded():
    log_w = torch.tensor([[0.0, 1e6]], dtype=torch.float64, requires_grad=True)
    huber_consistency(log_w, 2.0).sum().backward()
    assert log_w.grad.abs().max() <= 2 * 2.0  # 2δ a residual, shared through the mean


def test_consistency_is_unbiased():
    """E over draws of M = 2, 3 is the variance itself: M = 2 is half of the paper's eq. 33. 5 standard errors."""
    for trajectories in (2, 3):
        log_w = 1.7 * torch.randn(40000, trajectories, generator=generator(0, "var"), dtype=torch.float64)
        values = consistency(log_w)
        assert abs(values.mean() - 1.7**2) < 5 * values.std() / 200


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: consistency(torch.zeros(3, 1)),
        lambda: consistency(torch.zeros(3)),
        lambda: consistency(torch.zeros(3, 2, 1)),
        lambda: consistency(torch.full((3, 2), math.nan)),
        lambda: huber_consistency(torch.zeros(3, 1), 1.0),
        lambda: huber_consistency(torch.zeros(3, 2), 0.0),
        lambda: huber_consistency(torch.zeros(3, 2), math.nan),
        lambda: huber_consistency(torch.full((3, 2), math.inf), 1.0),
    ],
)
def test_misuse_is_a_value_error_with_a_sentence(misuse):
    with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
        misuse()


# ---------------------------------------------------------------- on chains

S2 = 0.3


def exact_model(timesteps):
    return exact_gaussian(linear_process(timesteps), S2)


def residual_variance(chain):
    """[B] consistency of a chain's log w."""
    _, x_prev, x_t, t = chain.rows(slice(None))
    log_w = chain.sum_over_steps(chain.model.log_pf(x_prev, x_t, t)) + chain.fixed_part()
    return consistency(log_w.view(len(chain.x0), -1))


def gaussian_images(count):
    return S2**0.5 * torch.randn(count, 1, 1, 1, generator=generator(0, "images"), dtype=torch.float64)


@pytest.mark.parametrize("timesteps, width", [(50, 2), (50, 7), (50, 49), (50, 50), (1000, 10)])
def test_an_exact_model_has_no_sub_trajectory_residual(timesteps, width):
    """Over bridges with common ends the flows cancel, for every x_t: rounding is all that is left (the prior of
    x_T is not in it, so no ᾱ_T either). Ten draws, so that s varies over the chain."""
    model, chosen = exact_model(timesteps), settings(chain="subtrajectory", chain_steps=width, trajectories=3)
    starts = set()
    for draw in range(10):
        chain = sample_chain(model, gaussian_images(4), chosen, generator(0, "sub", draw))
        starts.add(chain.first)
        assert chain.count == width * 4 * 3
        assert residual_variance(chain).max() < 1e-18
    assert len(starts) > 1 or width >= 49


def test_bridges_without_common_ends_do_have_a_residual():
    """The negative control: whole noising paths cut to [s, t] end in different x_t, and their flows do not cancel."""
    model = exact_model(50)
    chain = sample_chain(model, gaussian_images(4), settings(trajectories=3), generator(0, "cut"))
    _, x_prev, x_t, t = chain.rows(slice(None))
    terms = (model.log_pf(x_prev, x_t, t) - model.log_pb(x_prev, x_t, t)).view(50, 4, 3)
    assert consistency(terms[20:30].sum(0)).min() > 1e-4


def test_an_inexact_model_does_have_a_residual():
    exact = exact_model(50)
    for chain_name in ("full", "subtrajectory"):
        model = DenoisingModel(
            lambda x, time: 0.9 * exact.network(x, time), exact.process, exact.log_variance
        )
        chain = sample_chain(
            model, gaussian_images(4), settings(chain=chain_name, trajectories=3), generator(0, "bad")
        )
        assert residual_variance(chain).min() > 1e-6


@pytest.mark.parametrize("steps", [1, 5, 25, 50])
def test_an_exact_model_is_exact_on_a_respaced_chain(steps):
    """With the respaced chain's own reverse variances. Var(log w) ≤ 1e-6, as on the full chain."""
    model = exact_model(50)

    def variance_of(process):
        return exact_gaussian(process, S2).log_variance

    respaced = chain_model(model, settings(chain="respaced", chain_steps=steps), variance_of)
    chain = sample_chain(
        respaced, gaussian_images(4), settings(chain="respaced", trajectories=3), generator(0, "respaced")
    )
    assert chain.count == steps * 4 * 3 and chain.whole
    assert residual_variance(chain).max() <= 1e-6
    # The original chain's variances are wrong on it: the test sees what they do.
    if steps not in (1, 50):
        table = model.log_variance[torch.cat([torch.zeros(1).long(), respaced.process.network_times + 1])]
        chain.model = model.with_process(respaced.process, table)
        assert residual_variance(chain).max() > 1e-3


def test_a_whole_chain_is_a_scored_trajectory():
    """chains.py's rows and trajectory.py's score are the same log w, M trajectories of an image side by side."""
    process = linear_process(6)
    model = DenoisingModel(
        TinyNetwork().requires_grad_(False), process, fixed_log_variance(process, "small"), 17
    )
    x0 = torch.randint(0, 17, (3, 1, 2, 2), generator=generator(0, "x0")).double() / 8 - 1
    chain = sample_chain(model, x0, settings(trajectories=2), generator(0, "whole"))
    assert torch.equal(chain.states[0], x0.repeat_interleave(2, 0))
    rows_x0, x_prev, x_t, t = chain.rows(slice(None))
    log_w = chain.sum_over_steps(model.log_pf(x_prev, x_t, t)) + chain.fixed_part()
    torch.testing.assert_close(log_w, score(model, chain.states).log_w, rtol=1e-12, atol=1e-12)
    assert torch.equal(rows_x0, x0.repeat_interleave(2, 0).repeat(6, 1, 1, 1))
    # Any part of the rows is that part of all of them.
    part = torch.tensor([35, 0, 17, 6])
    for piece, whole in zip(chain.rows(part), chain.rows(slice(None)), strict=True):
        assert torch.equal(piece, whole[part])


def test_sub_trajectories_have_the_forward_processs_law():
    """x_s and x_t of one image: a pair from q(x_s, x_t | x_0). Moments within 5 standard errors."""
    process, width, count = linear_process(50), 3, 4000
    model = exact_gaussian(process, S2)
    x0 = torch.full((count, 1, 1, 1), 0.5, dtype=torch.float64)
    starts = []
    for draw in range(4):
        chosen = settings(chain="subtrajectory", chain_steps=width)
        chain = sample_chain(model, x0, chosen, generator(0, "law", draw))
        s, t = chain.first, chain.first + width
        starts.append(s)
        assert torch.equal(chain.states[0, ::2], chain.states[0, 1::2])
        assert torch.equal(chain.states[-1, ::2], chain.states[-1, 1::2])
        assert not torch.equal(chain.states[1, ::2], chain.states[1, 1::2])
        x_s, x_t = chain.states[0, ::2].flatten(), chain.states[-1, ::2].flatten()
        ratio = process.alpha_bar[t] / process.alpha_bar[s]
        (mean_s, variance_s), (mean_t, variance_t) = (process.marginal(x0[:1], time) for time in (s, t))
        step = x_t - ratio**0.5 * x_s  # independent of x_s, variance 1 − ratio
        for x, mean, variance in (
            (x_s, mean_s, variance_s),
            (x_t, mean_t, variance_t),
            (step, 0.0, 1 - ratio),
        ):
            assert abs(x.mean() - mean) <= 5 * (variance / count) ** 0.5 + 1e-12
            assert abs(x.var() - variance) <= 5 * variance * (2 / count) ** 0.5 + 1e-12
    assert sum(s > 5 for s in starts) >= 2


@pytest.mark.parametrize("width", [1, 51])
def test_a_sub_trajectory_of_one_step_or_too_many_is_refused(width):
    chosen = settings(chain="subtrajectory", chain_steps=width)
    with pytest.raises(ValueError, match="sub-trajectory"):
        sample_chain(exact_model(50), gaussian_images(2), chosen, generator(0))
