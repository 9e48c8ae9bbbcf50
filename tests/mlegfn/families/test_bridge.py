"""The Schrödinger bridge: wrong closed forms, swapped policies and another reference are all found."""

import pytest
import torch
from helpers.settings import family_settings

from mlegfn.families.bridge import Bridge
from mlegfn.families.shared.bridge import checks as measured
from mlegfn.families.shared.bridge.gaussian import bridge_moments, coupling
from mlegfn.families.shared.bridge.policies import step_variances
from mlegfn.randomness import generator
from mlegfn.trajectory import score

TIMESTEPS = 6
VARIANCE = measured.VARIANCE
EXACT = 1e-12  # what the right closed form is reached to
WRONG = {
    "independent ends": {"cov_0T": torch.zeros(2, 2, dtype=torch.float64)},
    "twice the variance": {"variance": 2 * VARIANCE},
    "half the variance": {"variance": VARIANCE / 2},
    "twice the variance in the coupling alone": {
        "cov_0T": coupling(*(p.cov for p in measured.ends()), 2 * VARIANCE)
    },
}


def closed_form(**wrong):
    variances = step_variances(TIMESTEPS, VARIANCE)
    wrong = {"variance": VARIANCE, **wrong}
    return bridge_moments(*measured.ends(), elapsed=measured.fraction(variances), **wrong)


def largest(moments, expected):
    return max((a - b).abs().max().item() for a, b in zip(moments, expected))


@pytest.fixture(scope="module")
def settings():
    return family_settings()


@pytest.fixture(scope="module")
def limit():
    """(P_F, P_B) after exact half-steps."""
    variances = step_variances(TIMESTEPS, VARIANCE)
    return measured.exact_iterations(*measured.ends(), variances, measured.ITERATIONS)[-1][:2]


@pytest.fixture(scope="module")
def descended(settings):
    return measured.descended(Bridge, settings, step_variances(TIMESTEPS, VARIANCE), 0, **measured.DESCENT)


def model_of(p_f, p_b):
    model = Bridge.affine(measured.ends()[1], step_variances(TIMESTEPS, VARIANCE))
    model.set_chains(p_f, p_b)
    return model


def test_the_closed_form_is_a_bridge():
    """Its ends are given, and their joint density is e^{x·y/σ²} a(x) b(y): −I/σ² in the precision."""
    p_0, p_T = measured.ends()
    cross = coupling(p_0.cov, p_T.cov, VARIANCE)
    joint = torch.cat([torch.cat([p_0.cov, cross], 1), torch.cat([cross.T, p_T.cov], 1)])
    assert torch.linalg.eigvalsh(joint).min() > 0
    expected = -torch.eye(2, dtype=torch.float64) / VARIANCE
    torch.testing.assert_close(torch.linalg.inv(joint)[:2, 2:], expected, rtol=0, atol=EXACT)
    for moment, start, end in zip(closed_form(), (p_0.mean, p_0.cov), (p_T.mean, p_T.cov)):
        torch.testing.assert_close(moment[0], start, rtol=0, atol=EXACT)
        torch.testing.assert_close(moment[-1], end, rtol=0, atol=EXACT)


def test_exact_half_steps_reach_it(limit):
    p_f, p_b = limit
    assert largest(p_b.moments(), closed_form()) < EXACT
    assert largest([m.flip(0) for m in p_f.moments()], closed_form()) < EXACT


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_closed_form_is_found(limit, wrong):
    assert largest(limit[1].moments(), closed_form(**WRONG[wrong])) > 0.05


@pytest.mark.parametrize("wrong", ["independent ends", "twice the variance"])
def test_descent_tells_it_from_a_wrong_one(descended, wrong):
    *moments, count = descended
    iterations = measured.DESCENT["iterations"]
    for each in moments:
        assert measured.deviation(each, closed_form(), count, iterations) < 5
        assert measured.deviation(each, closed_form(**WRONG[wrong]), count, iterations) > 5


def test_swapped_policies_are_found(limit):
    """P_F's steps as P_B's: the ends' means differ, so paths run the wrong way."""
    p_f, p_b = limit
    states = model_of(p_f, p_b).sample_pb(measured.ends()[0].sample(100, generator(0)), generator(1))
    right, swapped = model_of(p_f, p_b), model_of(p_b, p_f)
    log_p = measured.ends()[0].log_prob(states[0])
    with torch.no_grad():
        assert (score(right, states).log_w - log_p).abs().max() < 1e-10
        assert (score(swapped, states).log_w - log_p).abs().mean() > 1


def test_a_half_step_on_its_own_trajectories_teaches_nothing(settings):
    """min D_KL(P_B‖P_B) in the place of D_KL(P_F‖P_B), both ways."""

    class Swapped(Bridge):
        def fit_policy(self, name, *rest):
            super().fit_policy({"P_F": "P_B", "P_B": "P_F"}[name], *rest)

    *moments, count = measured.descended(
        Swapped, settings, step_variances(TIMESTEPS, VARIANCE), 0, **{**measured.DESCENT, "steps": 160}
    )
    for each in moments:
        assert measured.deviation(each, closed_form(), count, measured.DESCENT["iterations"]) > 5


def test_fixed_variances_drift_away():
    """At a finite T the policies with the reference's variances leave the bridge, the further the longer."""
    variances = step_variances(16, VARIANCE)
    run = measured.exact_iterations(*measured.ends(), variances, 100, fixed=True)
    errors = [run[n][3] for n in (1, 10, 99)]
    assert errors[0] > 0.05 and errors == sorted(errors)


def test_pot_with_another_weight_is_found():
    assert measured.entropic_plan().passed
    assert measured.entropic_plan(VARIANCE).disagreement > 0.01


def test_the_untrained_bridge_is_brownian_motion():
    model = Bridge.affine(measured.ends()[1], step_variances(TIMESTEPS, VARIANCE))
    p_f, p_b = model.chains(measured.ends()[0])
    reference = measured.brownian(measured.ends()[0], step_variances(TIMESTEPS, VARIANCE))
    assert largest(p_b.moments(), reference.moments()) < EXACT
    assert torch.equal(p_f.gain, reference.gain)


def test_policies_are_the_chains_they_are_set_to(limit):
    for a, b in zip(model_of(*limit).chains(measured.ends()[0]), limit):
        for name in ("gain", "shift", "noise"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-10, atol=1e-12)
