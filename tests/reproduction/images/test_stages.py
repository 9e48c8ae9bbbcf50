"""The stages of the image experiment: parts are kept, one process is as good as several, artifacts are equal bytes."""

import json
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch
from helpers.image_stages import ARMS, Counted, OneBlock, image_settings, prepare, run_all, run_stage

from mlegfn.artifacts import read_json
from mlegfn.data import digits, load_images
from mlegfn.errors import Interrupted, UserError
from mlegfn.training.scratch import Scratch
from reproduction.images import nll
from reproduction.stage import Stage


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which every stage up to ``nll`` has run at the scale smoke. Copy it before it is changed."""
    folder = prepare(tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_all(image_settings(), until="images.quality")
    return folder


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A copy of it as the working directory."""
    shutil.copytree(finished, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def trained(monkeypatch):
    """The names of the parts that are trained or measured from here on."""
    return Counted(monkeypatch).names


def contents(folder="results"):
    """{path: bytes} of every artifact, its record of finished parts apart."""
    paths = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {str(path): path.read_bytes() for path in paths if not {"parts", "logs"} & set(path.parts)}


def test_fetch_writes_equal_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(prepare(tmp_path))
    written = []
    for _ in range(2):
        run_stage("images.fetch", image_settings(data__train_limit=64, data__test_limit=20))
        written.append([path.read_bytes() for path in sorted(Path("data/smoke").iterdir())])
    assert written[0] == written[1] and len(written[0]) == 2
    images, whole = load_images("data/smoke"), digits.load().limited(64, 20)
    assert (images.train_images == whole.train_images).all() and (
        images.test_images == whole.test_images
    ).all()


def test_images_that_cannot_be_had_name_the_key(tmp_path, monkeypatch):
    monkeypatch.chdir(prepare(tmp_path))
    for key, value, said in (
        ("data__train_limit", 5000, "params.yaml: images.smoke.data: train_limit: asks for 5000 images"),
        ("data__sha256_test", "0" * 64, "params.yaml: images.smoke.data: sha256_test: expected 000"),
    ):
        with pytest.raises(UserError) as error:
            run_stage("images.fetch", image_settings(**{key: value}))
        assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_nothing_is_computed_again(here, trained):
    before = contents()
    run_all(image_settings(), until="images.quality")
    assert trained == [] and contents() == before


def test_a_new_seed_costs_that_seed_alone(here, trained):
    before, settings = contents(), image_settings(pretrain__seeds=[0, 1, 5])
    run_all(settings, until="images.quality")
    assert trained == [
        *(f"pretrain@smoke: {step}-5" for step in (4, 8, 12)),
        *(f"finetune@smoke-{arm}: {step}-5" for arm in ARMS for step in (4, 8)),
        *(f"baseline_nll@smoke: {step}-5" for step in (4, 8, 12)),
        *(f"nll@smoke-{arm}: {step}-5" for arm in ARMS for step in (4, 8)),
    ]
    after = contents()
    assert before.items() <= after.items()
    fewer = image_settings(pretrain__seeds=[0])
    run_all(fewer, until="images.quality")
    names = {name for name in contents() if re.search(r"\d-[15]\b", name)}
    assert not names, "what is no longer asked for is deleted"


def test_a_later_checkpoint_costs_that_checkpoint_alone(here, trained):
    """log p is estimated at the last checkpoint, so the runs from what was the last one are measured again."""
    before = contents()
    settings = image_settings(pretrain__checkpoints=[4, 8, 12], pretrain__stop=14)
    for module, item in (("images.pretrain", None), ("images.finetune", "simple"), ("images.nll", "simple")):
        run_stage(module, settings, item)
    assert trained == [
        *(f"pretrain@smoke: 14-{seed}" for seed in (0, 1)),
        *(f"finetune@smoke-simple: 12-{seed}" for seed in (0, 1)),
        *(f"nll@smoke-simple: {step}-{seed}" for step in (8, 12) for seed in (0, 1)),
    ]
    after = contents()
    assert all(after[name] == content for name, content in before.items() if "/nll/simple/8-" not in name)


@pytest.mark.parametrize(
    "change", [{"finetune__simple_tbc__weight": [0.5, 0.6]}, {"finetune__simple_tbc__loss": "huber"}]
)
def test_what_one_arm_reads_leaves_the_others_alone(here, trained, change):
    settings = image_settings(**change)
    before = contents()
    run_stage("images.finetune", settings, "simple")
    run_stage("images.finetune", settings, "reweighted")
    assert trained == [] and contents() == before
    run_stage("images.finetune", settings, "simple_tbc")
    assert len(trained) == 2 + 4 and all(name.startswith("finetune@smoke-simple_tbc: ") for name in trained)
    changed = [name for name, content in contents().items() if before.get(name) != content]
    assert changed and all("/simple_tbc/" in name for name in changed)


def test_what_every_arm_spends_is_read_by_every_arm(here, trained):
    run_stage("images.finetune", image_settings(finetune__all__consistency__images=1), "simple")
    assert len(trained) == 2 + 4


@pytest.mark.parametrize("arm, resumes", [("simple", True), ("simple_tbc", False)])
def test_a_half_done_fine_tune_goes_on_where_its_settings_are_as_they_were(
    here, monkeypatch, capsys, arm, resumes
):
    """Interrupted, then λ is edited: the state of `simple` is still used, that of `simple_tbc` is not."""
    settings = image_settings(
        pretrain__seeds=[0, 1], machine__save_every_minutes=1e-9, finetune__all__evaluate_at=[2, 5]
    )
    save = Scratch.save

    def stops(scratch, state):
        save(scratch, state)
        if state.step == 3:
            raise Interrupted("stop")

    monkeypatch.setattr(Scratch, "save", stops)
    with pytest.raises(Interrupted):
        run_stage("images.finetune", settings, arm)
    monkeypatch.setattr(Scratch, "save", save)
    capsys.readouterr()
    edited = settings.finetune.simple_tbc.model_copy(update={"weight": [0.5, 0.6]})
    finetune = settings.finetune.model_copy(update={"simple_tbc": edited})
    run_stage("images.finetune", settings.model_copy(update={"finetune": finetune}), arm)
    assert ("resuming at step 3" in capsys.readouterr().out) is resumes


# ---------------------------------------------------------------- the choice of an arm's settings


def choice(arm):
    return read_json(f"results/smoke/images/metrics/finetune/{arm}/choice.json")


@pytest.mark.parametrize("arm", ARMS)
def test_the_lowest_validation_nll_is_chosen_and_trained_with(here, arm):
    found = choice(arm)
    values = [one["bits_per_dim"] for one in found["tried"]]
    assert len(values) == 2 and len(set(values)) == 2
    best = found["tried"][values.index(min(values))]["trial"]
    assert found["chosen"] == best and found["checkpoint"] == 8 and found["seed"] == 0
    for seed in (0, 1):
        run = read_json(f"results/smoke/images/metrics/finetune/{arm}/4-{seed}.json")
        assert {key: run["optimizer"][key] for key in ("lr", "warmup")} == {
            k: best[k] for k in ("lr", "warmup")
        }
        assert run["lambda"] == best.get("weight", 0.0)


def test_test_images_decide_nothing(here, trained):
    """Other test images, the training images as they are: the same choice, from the same numbers."""
    before = {arm: choice(arm) for arm in ARMS}
    run_stage("images.fetch", image_settings(data__test_limit=9))
    for arm in ARMS:
        shutil.rmtree(f"results/smoke/images/metrics/finetune/{arm}")
        run_stage("images.finetune", image_settings(data__test_limit=9), arm)
        assert choice(arm) == before[arm]
    assert trained


def test_validation_images_are_trained_on_by_nobody(here, monkeypatch):
    """No index in common: what a training sees holds none of them, and they are cut from the training images."""
    from reproduction.images import inputs, pretrain

    stage = Stage("images.pretrain", "smoke", None, OneBlock(image_settings()))
    data, validation = inputs.splits(stage)
    whole = load_images("data/smoke")
    assert len(data.train_images) + len(validation) == len(whole.train_images) == 64 and len(validation) == 16

    def rows(images):
        return sorted(map(bytes, images.flatten(1).numpy()))

    assert rows(whole.train_images) == sorted(rows(data.train_images) + rows(validation))
    assert torch.equal(data.test_images, whole.test_images)
    seen = []

    class Recording(pretrain.Resident):
        def __init__(self, images, *rest):
            seen.append(images)
            super().__init__(images, *rest)

    monkeypatch.setattr(pretrain, "Resident", Recording)
    run_stage("images.pretrain", image_settings(pretrain__seeds=[0, 1, 3]))
    assert seen and all(torch.equal(images, data.train_images) for images in seen)


def test_a_combination_that_diverges_is_not_chosen(here, capsys):
    run_stage("images.finetune", image_settings(finetune__simple__lr=[1e9, 0.0005]), "simple")
    found = choice("simple")
    assert found["chosen"]["lr"] == 0.0005 and found["tried"][0]["bits_per_dim"] is None


def test_no_gradient_is_clipped(here):
    for arm in ARMS:
        for run in ("4-0", "8-1"):
            log = read_json(f"results/smoke/images/metrics/finetune/{arm}/{run}.json")
            assert (
                log["clipped_share"] == 0
                and max(e["grad_norm"] for e in log["log"]) < log["optimizer"]["clip"]
            )
    tight = {"finetune__all__optimizer__clip": 1e-6}
    run_stage("images.finetune", image_settings(**tight), "simple")
    assert read_json("results/smoke/images/metrics/finetune/simple/4-0.json")["clipped_share"] == 1


MODEL = ["compute__evaluation", "compute__channels_last", "network__dropout", "diffusion__beta_end"]
TRAINING = [*MODEL, "compute__precision", "data__flip", "data__validation", "nll__batch"]
VALUES = {
    "compute__precision": "bf16",
    "compute__evaluation": "bf16",
    "compute__channels_last": True,
    "network__dropout": 0.5,
    "diffusion__beta_end": 0.8,
    "data__flip": True,
    "nll__batch": 64,
    "nll__seed": 1,
    "data__validation": 20,
    "pretrain__batch": 4,
    "quality__seed": 1,
    "finetune__all__batch": 4,
    "finetune__all__evaluate_at": [2, 3],
    "finetune__all__consistency__chunk": 3,
    "finetune__simple_tbc__per_dimension": True,
    "machine__save_every_minutes": 9.0,
    "compute__cuda_graphs": True,
}


@pytest.mark.parametrize(
    "module, item, reached",
    [
        ("images.pretrain", None, [*TRAINING, "pretrain__batch"]),
        (
            "images.finetune",
            "simple_tbc",
            [
                *TRAINING,
                "finetune__all__batch",
                "finetune__all__evaluate_at",
                "finetune__all__consistency__chunk",
                "finetune__simple_tbc__per_dimension",
            ],
        ),
        ("images.baseline_nll", None, [*MODEL, "nll__batch", "nll__seed"]),
        ("images.quality", None, [*MODEL, "quality__seed"]),
    ],
)
def test_a_change_reaches_the_parts_that_depend_on_it(here, module, item, reached):
    """The first part of a stage: whether it is finished still, after each change of one setting."""
    calls = {
        "images.pretrain": lambda module, stage: module.part_of(stage, 4, 0, None),
        "images.finetune": lambda module, stage: module.part_of(
            stage, "simple_tbc", 4, 0, choice("simple_tbc")["chosen"]
        ),
        "images.baseline_nll": lambda module, stage: nll.part_of(stage, "baseline", 4, 0),
        "images.quality": lambda module, stage: module.part_of(stage, "baseline", 8, 0),
    }
    for key, value in VALUES.items():
        stage = Stage(module, "smoke", item, OneBlock(image_settings(**{key: value})))
        part = calls[module](import_module(f"reproduction.{module}"), stage)
        assert part.finished is (key not in reached), key


def test_quality_is_a_function_of_its_seed(here):
    first, second = (
        read_json(f"results/smoke/images/metrics/quality/{run}.json") for run in ("baseline", "simple_tbc")
    )
    assert (first["step"], second["step"], second["seed"], first["seed"]) == (8, 12, 0, 0)
    assert first["images"] == 8 and first["fid"] is None and first["why"].startswith("not measured")
    assert first["sliced_wasserstein"] != second["sliced_wasserstein"]
    run_stage("images.quality", image_settings(quality__seed=1))
    again = read_json("results/smoke/images/metrics/quality/baseline.json")
    assert again["sliced_wasserstein"] != first["sliced_wasserstein"]


def test_weights_that_are_no_inception_name_their_key(here):
    Path("weights.pth").write_bytes(b"no weights")
    with pytest.raises(
        UserError, match=r"params.yaml: images.smoke.quality: weights.pth: not torch-fidelity"
    ):
        run_stage("images.quality", image_settings(quality__inception="weights.pth"))


def test_a_network_that_cannot_be_built_names_its_key(here):
    settings = image_settings(network__block_out_channels=[8] * 6, network__attention=[False] * 6)
    with pytest.raises(UserError, match=r"^params.yaml: images.smoke: network: "):
        run_stage("images.pretrain", settings)


def test_metrics_say_what_was_done(here):
    log = json.loads(Path("results/smoke/images/metrics/finetune/simple_tbc/4-1.json").read_text())
    assert (log["arm"], log["checkpoint"], log["seed"], log["steps"]) == ("simple_tbc", 4, 1, 4)
    assert (log["likelihood_term"], log["term_over_chains"], len(log["log"])) == ("simple", "consistency", 4)
    assert log["lambda"] == log["weight_of_term"] == choice("simple_tbc")["chosen"]["weight"]
    other = json.loads(Path("results/smoke/images/metrics/finetune/simple/4-1.json").read_text())
    assert (other["likelihood_term"], other["lambda"]) == ("simple", 0.0)
    assert other["network_evaluations"] == log["network_evaluations"]  # one pass: every arm spends the same
    found = json.loads(Path("results/smoke/images/metrics/nll/simple_tbc/4-1.json").read_text())
    assert [point["step"] for point in found["points"]] == [6, 8] and found["arm"] == "simple_tbc"
    assert found["log_p"] is None
    last = read_json("results/smoke/images/metrics/nll/simple_tbc/8-1.json")["log_p"]
    assert last["images"] == len(last["per_image"]["log_p"]) == 4 and last["trajectories"] == 4
    assert last["log_p"] > last["elbo"] and last["variance"] > 0
