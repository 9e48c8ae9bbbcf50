"""The stage ``bits``: what it writes, and that a change costs only what depends on it."""

import json
from pathlib import Path

import pytest
import torch
from helpers.parts import Kept, leaves, prepare, run_stage, settings_of, with_value
from safetensors.torch import load_file

from reproduction.bits import experiment
from reproduction.bits.settings import Bits
from reproduction.bits.train import measure

SMOKE = settings_of(Bits, "bits")
TWO_SEEDS = with_value(SMOKE, ("seeds",), [0, 1])
BASE = with_value(SMOKE, ("mmd_points",), 8)
CHANGED = {
    ("seeds",): [1, 0],
    ("arms",): ["learned", "ordered"],
    ("policy",): "forward",
    ("weight",): 5.0,
}
# The arms that a setting changes, where it is not all of them.
DEPENDENT = {
    "seeds": {f"{arm}-1" for arm in SMOKE.arms},
    "arms": set(),
    "mmd_repeats": {"mmd-floor"},
    "backward_hidden": {"learned-0", "learned_tbc-0"},
    "weight": {"random_tbc-0", "learned_tbc-0"},
    "policy": {"random_tbc-0", "learned_tbc-0"},
    "backward_points": {"random_tbc-0", "learned-0", "learned_tbc-0"},
    "trajectories": {"random_tbc-0", "learned-0", "learned_tbc-0"},
    "importance_samples": {"random-0", "random_tbc-0", "learned-0", "learned_tbc-0"},
    "mmd_points": {"mmd-floor", *(f"{arm}-0" for arm in SMOKE.arms)},
}


def equal(one, other):
    """Whether two results of ``measure`` are the same, bit for bit."""
    (metrics, samples), (others, more) = one, other
    return json.dumps(metrics) == json.dumps(others) and all(
        torch.equal(samples[name], more[name]) for name in samples.keys() | more.keys()
    )


def files(folder):
    """{path: bytes} of what the stage wrote for other stages."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("metrics", "samples")
        for path in (folder / part).iterdir()
    }


def test_a_seed_that_is_added_costs_that_seed(tmp_path, monkeypatch):
    """With the real stage, whose parts lie on the disk: equal bytes, and a second run trains nothing."""
    trained, plain = [], experiment.fit

    def fit(problem, arm, settings, seed):
        trained.append((arm, seed))
        return plain(problem, arm, settings, seed)

    monkeypatch.setattr(experiment, "fit", fit)
    monkeypatch.chdir(prepare(tmp_path / "at once"))
    stage = run_stage("bits.train", TWO_SEEDS, "moons")
    assert stage.name == "bits@smoke-moons"
    expected, all_seeds = files(Path("results/smoke/bits")), list(trained)
    assert all_seeds == [(arm, seed) for seed in (0, 1) for arm in SMOKE.arms]
    assert set(expected) == {"metrics/moons.json", "samples/moons.safetensors"}
    metrics = json.loads(expected["metrics/moons.json"])
    assert (
        metrics["scale"] == "smoke" and [(run["model"], run["seed"]) for run in metrics["runs"]] == all_seeds
    )
    samples = load_file("results/smoke/bits/samples/moons.safetensors")
    assert set(samples) == {"data", *SMOKE.arms}
    assert all(s.shape == (SMOKE.sample_points, 2) and s.isfinite().all() for s in samples.values())

    monkeypatch.chdir(prepare(tmp_path / "one after the other"))
    run_stage("bits.train", SMOKE, "moons")
    trained.clear()
    run_stage("bits.train", TWO_SEEDS, "moons")
    assert trained == [each for each in all_seeds if each[1] == 1]
    assert files(Path("results/smoke/bits")) == expected
    trained.clear()
    run_stage("bits.train", TWO_SEEDS, "moons")
    assert not trained and files(Path("results/smoke/bits")) == expected


@pytest.fixture(scope="module")
def kept():
    """(result of BASE, the parts that were made for it)."""
    parts = Kept()
    return measure("moons", BASE, parts), parts


@pytest.mark.parametrize("path", list(leaves(BASE.model_dump())), ids=".".join)
def test_every_setting_reaches_what_depends_on_it(kept, path):
    """What is kept of other settings gives the result that is computed from nothing."""
    before, parts = kept
    value = BASE.model_dump()[path[0]]
    value = not value if isinstance(value, bool) else value * 2 if isinstance(value, float) else value
    value = CHANGED.get(path, value + 1 if type(value) is int else value)
    settings = with_value(BASE, path, value)
    found, computed = parts.after(measure, "moons", settings)
    assert equal(found, measure("moons", settings, Kept())) and not equal(found, before)
    assert set(computed) == DEPENDENT.get(path[0], {f"{arm}-0" for arm in BASE.arms})


def test_a_setting_that_a_part_does_not_name_is_noticed():
    """The test above can fail: where λ is not among the settings of a part, the old model is taken for the new one."""

    class Forgetful(Kept):
        def __call__(self, name, settings, compute):
            settings = {key: value for key, value in settings.items() if key != "weight"}
            return super().__call__(name, settings, compute)

    parts, heavier = Forgetful(), with_value(BASE, ("weight",), 5.0)
    measure("moons", BASE, parts)
    assert not equal(measure("moons", heavier, parts), measure("moons", heavier, Kept()))
