"""The stage ``policy``: arms share P_F, data, times and noise, spend equally, and change with what they depend on."""

import json
from pathlib import Path

import pytest
import torch
from helpers.parts import Kept, leaves, prepare, run_stage, settings_of, with_value
from helpers.synthetic_policies import tiny

from mlegfn.bits.planar import significance
from mlegfn.errors import UserError
from reproduction.consistency import policy, policy_training
from reproduction.consistency.policy_arms import ARMS
from reproduction.consistency.settings import Consistency

TINY = tiny()
WHOLE = settings_of(Consistency, "consistency").model_copy(update={"policy": TINY})


def test_the_stage_writes_its_schema_and_repeats_to_the_byte(tmp_path, monkeypatch):
    written = []
    for name in ("one", "two"):
        monkeypatch.chdir(prepare(tmp_path / name))
        run_stage("consistency.policy", WHOLE, "moons")
        written.append(Path("results/smoke/consistency/metrics/policy/moons.json").read_bytes())
        assert Path("results/smoke/consistency/runs/policy/moons/tbc-0.json").is_file()
    assert written[0] == written[1]
    value = json.loads(written[0])
    assert [run["arm"] for run in value["runs"]] == TINY.arms
    assert value["significance"] == significance().tolist()
    runs = {run["arm"]: run for run in value["runs"]}
    assert len({run["evaluations"]["forward"] for run in value["runs"]}) == 1, "all spend as much of P_F"
    assert {run["trajectories"] for run in value["runs"]} == {1, TINY.importance_samples}
    for name, change in runs["uniform_single"]["differences"].items():
        assert change == {"value": 0.0, "standard_error": 0.0}, name
    change = runs["tbc"]["differences"]["elbo_nll"]["value"]
    assert change == pytest.approx(runs["tbc"]["elbo_nll"] - runs["uniform_single"]["elbo_nll"], abs=1e-9)
    assert runs["ordered"]["rank_correlation"] == 1


@pytest.mark.parametrize("arm", ARMS)
def test_fits_count_what_they_evaluate(arm, monkeypatch):
    seen = {"forward": 0, "backward": 0}
    plain = policy_training.new_pair

    def counting(*arguments):
        pair = plain(*arguments)
        for name, own in (("forward", pair.policy_f), ("backward", pair.policy_b)):
            if isinstance(own, policy_training.BitNetwork):
                own.register_forward_pre_hook(
                    lambda _, args, name=name: seen.update({name: seen[name] + len(args[0])})
                )
        return pair

    monkeypatch.setattr(policy_training, "new_pair", counting)
    pair, spent = policy_training.fit("moons", arm, TINY, 0)
    assert seen == {name: spent[name] for name in seen}
    before = plain(arm, TINY, 0)
    trained = [
        any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
        for one, other in ((pair.policy_f, before.policy_f), (pair.policy_b, before.policy_b))
        if one is not None
    ]
    assert trained == [True] * (1 + ARMS[arm].learned)


def test_arms_start_from_one_p_f_and_see_the_same_data_times_and_noise(monkeypatch):
    pairs = {arm: policy_training.new_pair(arm, TINY, 0) for arm in ARMS}
    first = list(pairs["uniform"].policy_f.parameters())
    for pair in pairs.values():
        assert all(torch.equal(a, b) for a, b in zip(first, pair.policy_f.parameters()))
    seen = {}
    for arm, pair in pairs.items():

        def watched(given, x, steps, t, average=None, arm=arm):
            seen.setdefault(arm, (x, steps, t))
            return torch.zeros(len(x))

        monkeypatch.setattr(policy_training, "forward_loss", watched)
        policy_training.losses("moons", arm, TINY, 0, pair, 1)
    for arm, (x, steps, t) in seen.items():
        assert torch.equal(x, seen["uniform"][0]) and torch.equal(t, seen["uniform"][2]), arm
        if arm in ("uniform_single", "free_uniform"):
            assert torch.equal(steps, seen["uniform"][1]), arm
    assert torch.equal(seen["score"][1], seen["tbc"][1]), "networks that are zero"
    assert not torch.equal(seen["free_ordered"][1], seen["free_uniform"][1])


def test_the_losses_of_the_policies_do_not_reach_each_other():
    for arm in ("score", "tbc", "free_uniform"):
        pair = policy_training.new_pair(arm, TINY, 0)
        # Before training log w is the same for all trajectories, and P_B has nothing to learn.
        torch.nn.init.normal_(pair.policy_f.exit.weight, generator=torch.Generator().manual_seed(0))
        forward, backward = policy_training.losses("moons", arm, TINY, 0, pair, 0)
        for value, own, other in (
            (forward, pair.policy_f, pair.policy_b),
            (backward, pair.policy_b, pair.policy_f),
        ):
            grads = torch.autograd.grad(value, list(own.parameters()), retain_graph=True, allow_unused=True)
            assert any(g is not None and g.any() for g in grads), arm
            with_other = torch.autograd.grad(
                value, list(other.parameters()), retain_graph=True, allow_unused=True
            )
            assert not any(g is not None and g.any() for g in with_other), arm


def test_the_changes_of_the_likelihood_are_less_its_bias():
    """Normal log w of variance s²: log p = mean + s²/2, and 16 trajectories miss (e^s² − 1)/32 of it."""
    noise = torch.randn(40_000, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain, corrected = -policy.importance_weighted(0.5 * noise), policy.negative_log_p(0.5 * noise)
    error = corrected.std().item() / 200
    assert abs(corrected.mean().item() + 0.125) < 4 * error
    assert abs(plain.mean().item() + 0.125) > 8 * error
    assert torch.equal(policy.negative_log_p(noise[:, :1]), -noise[:, 0])


def test_rank_correlation():
    assert policy.rank_correlation([1, 2, 3, 4], [10, 20, 30, 31]) == pytest.approx(1)
    assert policy.rank_correlation([4, 3, 2, 1], [10, 20, 30, 31]) == pytest.approx(-1)
    assert policy.rank_correlation([1, 1, 1], [1, 2, 3]) == 0
    # 1, 2.5, 2.5, 4 beside 1, 2, 3, 4
    assert policy.rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


CHANGED = {
    "seeds": [1],
    "arms": ["uniform_single", "score", "tbc", "free_ordered", "ordered"],
    "importance_samples": 6,
    "clip": 0.25,
    "weight": 0.001,  # the gradient is then not clipped; Adam sees nothing else of its length
}
LEARNED = {"score-0", "tbc-0", "free_uniform-0", "free_ordered-0"}
EVERY = {f"{arm}-0" for arm in TINY.arms}
# What has to be computed anew, where it is not every arm.
DEPENDENT = {
    "seeds": {f"{arm}-1" for arm in TINY.arms},
    "arms": set(),
    "backward_lr": LEARNED,
    "weight": {"tbc-0", "free_uniform-0", "free_ordered-0"},
    "sharpness": {"free_ordered-0"},
    "backward_hidden": {"score-0", "tbc-0"},
    "importance_samples": EVERY - {"ordered-0"},
    "mmd_points": {"mmd-floor", *EVERY},
    "mmd_repeats": {"mmd-floor"},
}


@pytest.fixture(scope="module")
def kept():
    """(result of TINY, the parts that were made for it)."""
    parts = Kept()
    return policy.measure("moons", TINY, parts), parts


@pytest.mark.parametrize("key", [path[0] for path in leaves(TINY.model_dump())])
def test_every_setting_reaches_what_depends_on_it(kept, key):
    """What is kept of other settings gives the result that is computed from nothing."""
    before, parts = kept
    value = getattr(TINY, key)
    value = not value if isinstance(value, bool) else value * 2 if isinstance(value, float) else value
    settings = with_value(TINY, (key,), CHANGED.get(key, value + 1 if type(value) is int else value))
    found, computed = parts.after(policy.measure, "moons", settings)
    anew = policy.measure("moons", settings, Kept())
    assert json.dumps(found) == json.dumps(anew) and json.dumps(found) != json.dumps(before)
    assert set(computed) == DEPENDENT.get(key, EVERY)
    if key not in ("seeds", "arms", "test_points"):  # these are echoed, or say which runs there are
        pairs = [[{**run, "differences": None} for run in result["runs"]] for result in (found, before)]
        moved = {f"{new['arm']}-0" for new, old in zip(*pairs) if new != old}
        assert moved == DEPENDENT.get(key, EVERY) - {"mmd-floor"}


@pytest.mark.parametrize(
    "key, value, line",
    [
        ("seeds", [0, 0], "names something twice"),
        ("arms", ["uniform", "tbc"], "must have uniform_single, the arm that all are compared with"),
        ("arms", ["uniform_single", "uniform_single"], "names something twice"),
        ("times", 33, "must be at most 32, the steps of a trajectory"),
        ("points", 9, "must be at most batch, 8"),
        ("trajectories", 1, "expected an integer ≥ 2"),
    ],
)
def test_what_each_mistake_says(key, value, line):
    with pytest.raises(UserError) as error:
        with_value(TINY, (key,), value)
    assert str(error.value).startswith(f"params.yaml: {key}: {line}"), error.value
    assert "\n" not in str(error.value)
