"""The stage ``noising``: arms share P_F, data and noise, spend equally, hold P_F, and change with what they depend on."""

import json
from pathlib import Path

import pytest
import torch
from helpers.parts import Kept, leaves, prepare, run_stage, settings_of, with_value

from mlegfn.errors import UserError
from mlegfn.randomness import generator
from reproduction.consistency import noising, noising_training
from reproduction.consistency.noising_settings import Noising
from reproduction.consistency.settings import Consistency

SMALL = {
    "hidden": 8, "batch": 4, "trajectories": 2, "pretrain_steps": 3, "steps": 3, "lr": 0.01, "backward_lr": 0.05,
    "clip": 0.5, "gradient_batches": 3, "test_points": 6, "importance_samples": 4,
}  # fmt: skip
TINY = Noising(
    seeds=[0],
    arms=["fixed", "pathwise", "score", "tbc"],
    diffusion={"timesteps": 5, "beta_start": 0.02, "beta_end": 0.7},
    train_points=20,
    points=SMALL,
    images=SMALL,
)
WHOLE = settings_of(Consistency, "consistency").model_copy(update={"noising": TINY})


@pytest.mark.parametrize("problem", ["moons", "digits"])
def test_the_stage_writes_its_schema_and_repeats_to_the_byte(problem, tmp_path, monkeypatch):
    written = []
    for name in ("one", "two"):
        monkeypatch.chdir(prepare(tmp_path / name))
        run_stage("consistency.noising", WHOLE, problem)
        written.append(Path(f"results/smoke/consistency/metrics/noising/{problem}.json").read_bytes())
    assert written[0] == written[1]
    value = json.loads(written[0])
    runs = {run["arm"]: run for run in value["runs"]}
    assert list(runs) == TINY.arms and len({run["state_evaluations"] for run in value["runs"]}) == 1
    assert all(change["value"] == 0 for change in runs["fixed"]["differences"].values())
    change = runs["tbc"]["differences"]["elbo_nll"]["value"]
    assert change == pytest.approx(runs["tbc"]["elbo_nll"] - runs["fixed"]["elbo_nll"], abs=1e-6)
    ends = {arm: [run["log_snr"][0], run["log_snr"][-1]] for arm, run in runs.items()}
    assert all(
        torch.allclose(torch.tensor(ends["fixed"]), torch.tensor(end), atol=1e-4) for end in ends.values()
    )
    assert runs["tbc"]["log_snr"][2] != runs["fixed"]["log_snr"][2]


def gradients(arm, seed=0, rounds=4):
    """(of P_F's parameters, of P_B's rates) of one batch."""
    pair = noising_training.new_pair("moons", TINY, 0)
    with torch.no_grad():  # an untrained network gives zero
        for parameter in pair.reverse.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(9, "weights")))
    data, _, _ = noising_training.data_of("moons", TINY, 0)
    losses = noising_training.forward_and_backward(pair, data[:8], rounds, generator(seed, "draw"), arm)
    sum(losses).backward()
    own, rates = ([p.grad for p in part.parameters()] for part in (pair.reverse, pair.schedule))
    return own, rates[0]


def test_every_arm_trains_p_f_by_the_same_gradient_and_only_its_own_rates():
    whole = {arm: gradients(arm) for arm in TINY.arms}
    for arm, (own, rates) in whole.items():
        for one, other in zip(own, whole["fixed"][0], strict=True):
            torch.testing.assert_close(one, other, msg=arm)
        assert (rates is None) == (arm == "fixed")
    assert not torch.allclose(whole["tbc"][1], whole["score"][1])


def test_half_of_tbc_is_the_score_function_with_a_full_return_and_leave_one_out():
    """Number for number (Richter et al. 2020, arXiv 2010.10436); another baseline is another estimate."""
    pair, M = noising_training.new_pair("moons", TINY, 0), 4
    data, _, _ = noising_training.data_of("moons", TINY, 0)
    path, _ = noising_training.trajectories(pair, data[:8], M, generator(0, "draw"))
    log_pf = pair.reverse.log_prob(path).detach()
    log_pb = noising_training.log_noising(path, pair.schedule.rates()).sum(0).view(-1, M)
    log_w = (noising_training.log_prior(path) + log_pf.sum(0)).view(-1, M) - log_pb.detach()

    def of_rates(value):
        return torch.autograd.grad(value, pair.schedule.logits, retain_graph=True)[0]

    half = of_rates(noising_training.backward_loss(pair, path, log_pf, M, "tbc"))
    others = (log_w.sum(1, keepdim=True) - log_w) / (M - 1)
    torch.testing.assert_close(half, of_rates(-((log_w - others) * log_pb).mean()), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(half, of_rates(-(log_w * log_pb).mean()), rtol=0.1)


def test_a_change_of_a_setting_reaches_what_depends_on_it():
    kept = Kept()
    noising.measure("moons", TINY, kept)
    before = len(kept.computed)
    noising.measure("moons", TINY, kept)
    assert len(kept.computed) == before
    for path in leaves(TINY.model_dump(mode="json")):
        if path[0] in ("seeds", "arms", "images"):
            continue
        value = TINY
        for key in path:
            value = getattr(value, key)
        other = value + 2 if isinstance(value, int) else value * 0.9
        _, computed = kept.after(noising.measure, "moons", with_value(TINY, path, other))
        names = {name.rpartition("-")[0] for name in computed}
        wanted = {
            ("points", "gradient_batches"): {"gradients"},
            ("points", "backward_lr"): {"pathwise", "score", "tbc"},
            ("points", "steps"): set(TINY.arms),
            ("points", "importance_samples"): set(TINY.arms),
        }.get(tuple(path), {"pretrain", "gradients", *TINY.arms})
        assert names == wanted, path


@pytest.mark.parametrize(
    "key, value, line",
    [("arms", ["tbc", "score"], "must have fixed"), ("seeds", [0, 0], "twice")],
)
def test_mistakes_in_settings(key, value, line):
    from reproduction.settings.validation import validate

    with pytest.raises(UserError, match=line):
        validate(Noising, {**TINY.model_dump(mode="json"), key: value}, "params.yaml")
