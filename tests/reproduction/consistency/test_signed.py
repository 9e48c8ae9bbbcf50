"""The stage ``signed``: arms leave one optimum on the same draws, what is finished is kept, bytes are equal."""

import json
from pathlib import Path

import pytest
import torch
from helpers.parts import Kept, prepare, run_stage, settings_of, with_value

from reproduction.consistency import experiment, signed
from reproduction.consistency.arms import Arm, bound
from reproduction.consistency.settings import Consistency

SMOKE = settings_of(Consistency, "consistency")
ONE_SEED = with_value(SMOKE, ("seeds",), [0])


@pytest.fixture(scope="module")
def kept():
    """(result, the parts that were made for it) of one seed."""
    parts = Kept()
    return signed.measure("moons", ONE_SEED, parts), parts


def test_the_stage_writes_its_schema_and_repeats_to_the_byte(tmp_path, monkeypatch):
    written = []
    for name in ("one", "two"):
        monkeypatch.chdir(prepare(tmp_path / name))
        run_stage("consistency.signed", ONE_SEED, "moons")
        written.append(Path("results/smoke/consistency/metrics/signed/moons.json").read_bytes())
    assert written[0] == written[1]
    value = json.loads(written[0])
    assert [run["arm"] for run in value["runs"]] == ["bound-0.2", "bound+0", "bound+0.2", "iwae2"]
    assert {run["state_evaluations"] for run in value["runs"]} == {5 * 4 * 4 * 4}, "all spend as much"
    reference = value["runs"][1]
    assert all(
        change == {"value": 0.0, "standard_error": 0.0} for change in reference["differences"].values()
    )
    (optimum,) = value["optima"]
    assert [point["step"] for point in optimum["curve"]][-1] == 20
    assert set(optimum["pull"]) == {"pretrained", "optimum"}


def test_a_seed_and_an_arm_cost_their_own_training(kept):
    result, parts = kept
    both, computed = parts.after(signed.measure, "moons", SMOKE)
    assert all("-1" in name for name in computed) and both["runs"][:4] == result["runs"]
    settings = with_value(ONE_SEED, ("weights",), [-0.2, -0.1, 0.0, 0.1, 0.2])
    more, computed = parts.after(signed.measure, "moons", settings)
    assert {name.partition("-0-log")[0] for name in computed} == {
        *("bound-0.1-0", "bound-0.1", "bound+0.1-0", "bound+0.1")
    }
    assert [run for run in more["runs"] if run["arm"] == "iwae2"] == result["runs"][3:]


def test_arms_see_the_same_points_and_noise(monkeypatch):
    """log w of an arm's first step is that of every other's, and Adam begins with fresh moments."""
    problem = experiment.Problem.of("moons", ONE_SEED, 0)
    tensors, errors = experiment.pretrain(problem, ONE_SEED)
    seen, states = [], []
    losses = experiment.loss_of

    def watched(arm):
        def loss(log_w):
            seen[-1].append(log_w.detach().clone())
            return losses(arm)(log_w)

        return loss

    resumed = experiment._resumed

    def remembered(*arguments):
        state, model = resumed(*arguments)
        states.append((state.step, len(state.optimizer.state)))
        return state, model

    monkeypatch.setattr(experiment, "loss_of", watched)
    monkeypatch.setattr(experiment, "_resumed", remembered)
    weights = []
    for arm in (bound(0.0), bound(-0.2), Arm("iwae2", "iwae", 2)):
        seen.append([])
        weights.append(experiment.train_arm(problem, ONE_SEED, tensors, errors, arm)[0])
    assert all(torch.equal(each[0], seen[0][0]) for each in seen) and states == [(0, 0)] * 3
    # Adam's first step starts a warm-up from zero; the second step's loss already has moved the weights.
    assert not torch.equal(seen[1][-1], seen[0][-1]) and not torch.equal(seen[2][-1], seen[0][-1])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_differences_are_of_points_and_less_the_bias_of_the_likelihood():
    """Normal log w: κ₁ = m, κ₂ = s², κ₃ = 0, log p = m + s²/2, all known."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 64, generator=draw, dtype=torch.float64)
    found = signed.differences(0.6 * noise - 1.0, 0.5 * noise - 1.1)
    for name, known in {
        "nll": -(0.1 + (0.36 - 0.25) / 2),
        "elbo_nll": -0.1,
        "log_w_variance": 0.36 - 0.25,
        "log_w_third_cumulant": 0.0,
    }.items():
        assert abs(found[name]["value"] - known) < 4 * found[name]["standard_error"], name
    biased = signed.importance_weighted(0.6 * noise).mean() - signed.importance_weighted(0.5 * noise).mean()
    assert abs(biased - 0.055) > abs(-found["nll"]["value"] - 0.1 - 0.055), "uncorrected it is farther off"
