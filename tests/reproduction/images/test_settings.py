"""The block ``images``: rules between settings name their key; what an arm reads."""

import pytest
from helpers.image_stages import image_settings

from mlegfn.errors import UserError


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
        ({"trajectories__pretrain_seed": 9}, "trajectories.pretrain_seed: must be one of pretrain.seeds"),
        ({"finetune__all__search__seed": 9}, "finetune.all.search.seed: must be one of pretrain.seeds"),
        (
            {"finetune__all__search__checkpoint": 5},
            "finetune.all.search.checkpoint: must be one of pretrain.checkpoints",
        ),
        (
            {"finetune__simple__lr": [0.1, 0.2, 0.3]},
            "finetune: every arm must try equally many combinations, not simple 3, simple_tbc 2, reweighted 2",
        ),
        ({"finetune__simple__lr": []}, "finetune.simple.lr: "),
        ({"nll__log_p__trajectories": 5}, "nll.log_p.trajectories: must be even"),
        (
            {"trajectories__arm": "baseline"},
            "trajectories.arm: expected one of simple, simple_tbc, reweighted, vlb, vlb_tbc",
        ),
        ({"trajectories__columns": 10}, "trajectories.columns: must be at most diffusion.timesteps + 1, 9"),
        ({"pretrain__seeds": [0, 0]}, "pretrain.seeds: names something twice"),
        (
            {"pretrain__seeds": list(range(6000))},
            "pretrain.seeds: asks for 12000 fine-tunings of an arm",
        ),
        ({"finetune__all__evaluate_at": [4, 2]}, "finetune.all.evaluate_at: must rise"),
        (
            {"finetune__all__consistency__chain": "respaced", "finetune__all__consistency__chain_steps": 9},
            "finetune.all.consistency.chain_steps: must be at most diffusion.timesteps, 8",
        ),
        ({"finetune__simple_tbc__weight": [-1, 1]}, "finetune.simple_tbc.weight"),
        ({"finetune__simple__weight": 1.0}, "finetune.simple.weight: unknown setting"),
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
    settings = image_settings(
        finetune__simple_tbc__weight=[0.25, 0.5], finetune__simple_tbc__per_dimension=True
    ).finetune
    trials = settings.simple_tbc.trials()
    assert [trial["weight"] for trial in trials] == [0.25, 0.5]
    tbc = settings.arm("simple_tbc", trials[1])
    assert (tbc.consistency.weight, tbc.consistency.per_dimension) == (0.5, True)
    assert tbc.consistency.images == settings.all.consistency.images
    (first, second) = settings.simple.trials()
    simple = settings.arm("simple", second)
    assert (simple.optimizer.lr, simple.optimizer.clip) == (second["lr"], settings.all.optimizer.clip)
    assert (simple.consistency.weight, simple.consistency.per_dimension) == (0.0, False)
    other = settings.model_copy(
        update={"simple_tbc": settings.simple_tbc.model_copy(update={"weight": [9.0, 10.0], "loss": "huber"})}
    )
    assert other.arm("simple", first) == settings.arm("simple", first)
    assert other.arm("simple_tbc", trials[0]) != settings.arm("simple_tbc", trials[0])
