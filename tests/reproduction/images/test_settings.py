"""The block ``images``: rules between settings name their key; what an arm reads."""

import pytest
from helpers.image_stages import image_settings

from mlegfn.errors import UserError
from reproduction.images.settings import Finetune


@pytest.mark.parametrize("scale", ["smoke", "digits", "cifar10", "cifar10_hour", "cifar10_cpu"])
def test_the_scales_of_the_repository_are_sound(scale):
    settings = image_settings(scale)
    assert settings.pretrain.segments[-1] == settings.pretrain.stop


@pytest.mark.parametrize(
    "change, line",
    [
        (
            {"trajectories__checkpoint": 5},
            "trajectories.checkpoint: must be one of pretrain.checkpoints, [4, 8]",
        ),
        ({"trajectories__finetune_seed": 9}, "trajectories.finetune_seed: must be one of finetune.all.seeds"),
        ({"trajectories__arm": "baseline"}, "trajectories.arm: expected one of simple, vlb, tbc"),
        ({"trajectories__columns": 10}, "trajectories.columns: must be at most diffusion.timesteps + 1, 9"),
        ({"finetune__all__seeds": [0, 0]}, "finetune.all.seeds: names something twice"),
        (
            {"finetune__all__seeds": list(range(6000))},
            "finetune.all.seeds: asks for 12000 fine-tunings of an arm",
        ),
        ({"finetune__all__evaluate_at": [4, 2]}, "finetune.all.evaluate_at: must rise"),
        (
            {"finetune__all__consistency__chain": "respaced", "finetune__all__consistency__chain_steps": 9},
            "finetune.all.consistency.chain_steps: must be at most diffusion.timesteps, 8",
        ),
        ({"finetune__tbc__weight": -1}, "finetune.tbc.weight: expected a number ≥ 0, got -1"),
        ({"finetune__simple": {"weight": 1.0}}, "finetune.simple.weight: unknown setting"),
        ({"nll__estimator": "stratified", "nll__evaluations": 9}, "nll.evaluations: must be at most"),
        ({"pretrain__stop": 8}, "pretrain.stop: must be after the last checkpoint, 8"),
        ({"pretrain__checkpoints": [8, 4]}, "pretrain.checkpoints: must rise from entry to entry"),
        ({"data__path": "images.zip"}, "data.path: is for the source `archive`; put null"),
        ({"data__source": "archive"}, "data.path: must name the images' folder or archive"),
        ({"data__source": "archive", "data__path": " "}, "data.path: must be a path of printable characters"),
        ({"data__source": "archive", "data__path": "results/x.zip"}, "data.path: overlaps with results/"),
        ({"data__source": "archive", "data__path": "."}, "data.path: overlaps with results/"),
        ({"data__source": "archive", "data__path": "data/smoke"}, "data.path: overlaps with data/"),
        ({"quality__inception": "data/../results"}, "quality.inception: overlaps with results/"),
        ({"quality__inception": "a\nb"}, "quality.inception: must be a path of printable characters"),
        ({"data__per_batch": 5}, "data.per_batch: is for the source `cifar10`; put null"),
        ({"data__source": "cifar10", "data__per_batch": 10001}, "data.per_batch: must be at most 10000"),
        ({"machine__live": "wandb"}, "machine.live: expected tensorboard or null, got 'wandb'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_setting_is_one_line(tmp_path, monkeypatch, change, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        image_settings(**change)
    assert str(error.value).startswith(f"params.yaml: images.smoke: {line}"), str(error.value)
    assert "\n" not in str(error.value)


def test_an_archive_elsewhere_is_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = image_settings(data__source="archive", data__path="mine.zip", quality__inception="~/w.pth")
    assert settings.data.path == "mine.zip"


def test_an_arm_reads_what_is_its_own():
    settings = image_settings(finetune__tbc__weight=0.25, finetune__tbc__per_dimension=True).finetune
    tbc = settings.arm("tbc")
    assert (tbc.anchor, tbc.consistency.weight, tbc.consistency.per_dimension) == ("vlb", 0.25, True)
    assert tbc.consistency.images == settings.all.consistency.images
    for name in ("simple", "vlb"):
        arm = settings.arm(name)
        assert (arm.anchor, arm.consistency.weight, arm.consistency.per_dimension) == (name, 0.0, False)
        assert arm.batch == settings.all.batch and arm.optimizer == settings.all.optimizer
    wild = settings.model_dump() | {"tbc": {**settings.tbc.model_dump(), "weight": 9.0, "anchor": "simple"}}
    other = Finetune.model_validate(wild)
    assert [other.arm(n) == settings.arm(n) for n in ("simple", "vlb", "tbc")] == [True, True, False]
