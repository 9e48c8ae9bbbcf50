"""The stage ``planar``: what it writes, and that a change costs only what depends on it."""

import json
from pathlib import Path

import pytest
import torch
from helpers.parts import Kept, leaves, prepare, run_stage, settings_of, with_value
from safetensors.torch import load_file

from reproduction.planar import train
from reproduction.planar.settings import Planar
from reproduction.planar.train import measure

SMOKE = settings_of(Planar, "planar")
ONE_SEED = with_value(SMOKE, ("seeds",), [0])


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


def test_the_stage_writes_its_schema_and_repeats_to_the_byte(tmp_path, monkeypatch):
    written = []
    for name in ("one", "two"):
        monkeypatch.chdir(prepare(tmp_path / name))
        stage = run_stage("planar.train", SMOKE, "moons")
        assert stage.name == "planar@smoke-moons"
        written.append(files(Path("results/smoke/planar")))
    assert written[0] == written[1] and set(written[0]) == {"metrics/moons.json", "samples/moons.safetensors"}

    metrics = json.loads(written[0]["metrics/moons.json"])
    assert {"trajectories", "points", "timesteps", "runs", "mmd_floor", "mmd_kernel"} <= set(metrics)
    assert metrics["scale"] == "smoke" and metrics["problem"] == "moons"
    assert metrics["entropy"] == pytest.approx(2.394, abs=0.001)
    assert set(metrics["mmd_floor"]) >= {"mean", "quantile_95"}
    assert {(run["model"], run["seed"]) for run in metrics["runs"]} == {
        (model, seed) for model in ("ddpm", "mle_gfn") for seed in (0, 1)
    }
    for run in metrics["runs"]:
        assert run["nll"] <= run["nll_half"] + 0.5 and run["nll"] < run["elbo_nll"]
        assert run["trajectories"] == metrics["trajectories"]
        assert set(run["network_evaluations"]) == {"forward", "backward"}
    assert len({json.dumps(run["network_evaluations"]) for run in metrics["runs"]}) == 1
    values = {run["model"]: run["nll"] for run in metrics["runs"] if run["seed"] == 0}
    assert values["ddpm"] != values["mle_gfn"]
    samples = load_file("results/smoke/planar/samples/moons.safetensors")
    assert set(samples) == {"data", "ddpm", "mle_gfn"}
    assert all(s.shape == (SMOKE.sample_points, 2) and s.isfinite().all() for s in samples.values())


def test_a_seed_that_is_added_costs_that_seed(tmp_path, monkeypatch):
    """With the real stage, whose parts lie on the disk: equal bytes, and a second run trains nothing."""
    trained = []

    def counted(name):
        plain = getattr(train, name)

        def function(*arguments):
            trained.append((name, getattr(arguments[2], "seed", arguments[2])))
            return plain(*arguments)

        return function

    for name in ("pretrain", "finetune"):
        monkeypatch.setattr(train, name, counted(name))
    monkeypatch.chdir(prepare(tmp_path / "at once"))
    run_stage("planar.train", SMOKE, "moons")
    expected, all_seeds = files(Path("results/smoke/planar")), sorted(trained)
    assert all_seeds == [("finetune", 0)] * 2 + [("finetune", 1)] * 2 + [("pretrain", 0), ("pretrain", 1)]

    monkeypatch.chdir(prepare(tmp_path / "one after the other"))
    run_stage("planar.train", ONE_SEED, "moons")
    trained.clear()
    run_stage("planar.train", SMOKE, "moons")
    assert sorted(trained) == [each for each in all_seeds if each[1] == 1]
    assert files(Path("results/smoke/planar")) == expected
    trained.clear()
    run_stage("planar.train", SMOKE, "moons")
    assert not trained and files(Path("results/smoke/planar")) == expected

    run_stage("planar.train", ONE_SEED, "moons")  # a seed that is taken away: nothing of it is left
    assert not trained and not list(Path("results/smoke/planar/runs/moons").glob("*-1*"))


# Settings that every part of the training reads, with values for which all of them matter.
BASE = ONE_SEED
for path, value in {
    ("arms",): ["simple", "vlb", "vlb_tbc"],
    ("optimizer", "warmup"): 3,
    ("consistency", "chain"): "respaced",
    ("consistency", "chain_steps"): 3,
    ("consistency", "gradient"): "subsampled",
    ("consistency", "loss"): "huber",
    ("consistency", "huber_delta"): 0.5,
    ("consistency", "weight"): 0.1,
    ("consistency", "weight_warmup"): 3,
    ("mmd_points",): 8,
}.items():
    BASE = with_value(BASE, path, value)

CHANGED = {
    ("seeds",): [1, 0],
    ("arms",): ["simple", "vlb_tbc"],
    ("diffusion", "beta_schedule"): "cosine",
    ("diffusion", "variance"): "small",
    ("diffusion", "variance_samples"): 8,
    ("diffusion", "decoder"): "tanh",
    ("anchor",): "simple",
    ("consistency", "chain"): "full",
    ("consistency", "chain_steps"): 2,
    ("consistency", "gradient"): "exact",
    ("consistency", "loss"): "square",
    ("importance_samples",): 6,  # 12 are more than the cap
    ("importance_samples_cap",): 16,
}
SAME = {("diffusion", "decoder"), ("consistency", "chunk")}  # of images; of the memory
ARM = {"simple-0", "vlb-0", "vlb_tbc-0"}


def other(path):
    """Another value than BASE's of the setting at ``path``."""
    if path in CHANGED:
        return CHANGED[path]
    value = BASE.model_dump()
    for key in path:
        value = value[key]
    return not value if isinstance(value, bool) else value * 0.5 if isinstance(value, float) else value + 1


@pytest.fixture(scope="module")
def kept():
    """(result of BASE, the parts that were made for it)."""
    parts = Kept()
    return measure("moons", BASE, parts), parts


PATHS = [path for path in leaves(BASE.model_dump()) if path[-1] != "policy"]  # which has one value


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_every_setting_reaches_what_depends_on_it(kept, path):
    """What is kept of other settings gives the result that is computed from nothing."""
    before, parts = kept
    settings = with_value(BASE, path, other(path))
    found, computed = parts.after(measure, "moons", settings)
    assert equal(found, measure("moons", settings, Kept()))
    assert equal(found, before) == (path in SAME)
    computed = {name for name in computed if "log-weights" not in name}
    if path[0] in ("finetune_steps", "finetune_optimizer"):
        assert computed == ARM
    if path[0] == "anchor" or path[-1] in ("weight", "weight_warmup", "loss", "huber_delta", "per_dimension"):
        assert computed == {"vlb_tbc-0"}
    if path[0] in ("test_points", "importance_samples", "importance_samples_cap", "precision", "arms"):
        assert not computed
    if path[0] == "mmd_repeats":
        assert computed == {"mmd-floor"}


def test_a_setting_that_a_part_does_not_name_is_noticed():
    """The test above can fail: where λ is not among the settings of a part, the old model is taken for the new one."""

    class Forgetful(Kept):
        def __call__(self, name, settings, compute):
            settings = {key: value for key, value in settings.items() if key != "consistency"}
            return super().__call__(name, settings, compute)

    parts, heavier = Forgetful(), with_value(BASE, ("consistency", "weight"), 5.0)
    measure("moons", BASE, parts)
    assert not equal(measure("moons", heavier, parts), measure("moons", heavier, Kept()))
