"""Every setting of the image experiment, changed, reaches what depends on it."""

import pytest
from helpers.every_setting import Pipeline, finished

from reproduction.images.settings import Images

TINY = {
    "data.train_limit": 16,
    "data.test_limit": 4,
    "network.block_out_channels": [8],
    "network.attention": [False],
    "diffusion.timesteps": 4,
    "diffusion.variance_samples": 4,
    "pretrain.checkpoints": [2],
    "pretrain.stop": 3,
    "pretrain.batch": 4,
    "finetune.all.seeds": [0],
    "finetune.all.evaluate_at": [2],
    "finetune.all.batch": 4,
    "finetune.all.consistency.chain": "respaced",
    "finetune.all.consistency.chain_steps": 3,
    "finetune.all.consistency.gradient": "subsampled",
    "finetune.all.consistency.gradient_steps": 2,
    "finetune.tbc.loss": "huber",
    "finetune.tbc.huber_delta": 0.5,
    "finetune.tbc.weight": 0.1,
    "finetune.tbc.weight_warmup": 2,
    "nll.estimator": "stratified",
    "nll.evaluations": 3,
    "trajectories.checkpoint": 2,
    "quality.samples": 4,
}
SEVERAL = TINY | {
    "pretrain.checkpoints": [1, 2],
    "finetune.all.seeds": [0, 1],
}
MACHINE = "no stage depends on it"
GPU = "of a GPU"
PIPELINE = Pipeline(
    "images",
    Images,
    changes=TINY,
    lists={"arms": ["tbc"], "models": ["baseline", "tbc"]},
    others={
        "machine.live": "tensorboard",
        "compute.precision": "bf16",
        "compute.evaluation": "bf16",
        "network.block_out_channels": [12],
        "network.norm_num_groups": 2,
        "pretrain.checkpoints": [1, 2],
        "finetune.all.seeds": [0, 1],
        "finetune.all.evaluate_at": [1, 2],
        "finetune.all.consistency.chunk": 3,
        "nll.batch": 2,
        "quality.samples": 3,
    },
    refused={
        "data.source": ("archive", "data.path: must name the images' folder"),
        "data.path": ("images.zip", "data.path: is for the source `archive`"),
        "data.per_batch": (5, "data.per_batch: is for the source `cifar10`"),
        "data.sha256_train": ("0" * 64, "data: sha256_train: expected 000"),
        "data.sha256_test": ("0" * 64, "data: sha256_test: expected 000"),
        "finetune.tbc.policy": ("backward", "finetune.tbc.policy: expected forward"),
        "trajectories.checkpoint": (1, "trajectories.checkpoint: must be one of pretrain.checkpoints"),
        "trajectories.finetune_seed": (1, "trajectories.finetune_seed: must be one of finetune.all.seeds"),
        "trajectories.arm": ("simple", "checkpoints/simple/2-0/step-2: not found"),
        "quality.inception": ("weights.pth", "quality: weights.pth: cannot be read"),
    },
    same={
        **{f"machine.{key}": MACHINE for key in ("accelerator", "save_every_minutes", "live")},
        **{f"compute.{key}": GPU for key in ("compile", "cuda_graphs", "deterministic")},
    },
    rounding={
        "compute.channels_last": "how images lie in the memory",
        "finetune.all.consistency.chunk": "how many states are evaluated at once",
        "nll.batch": "how many states are evaluated at once",
    },
    by_inputs={
        "machine.accelerator",
        "pretrain.checkpoints",
        "pretrain.stop",
        "finetune.all.seeds",
        "finetune.all.evaluate_at",
    },
    echoes={"decoder", "estimator", "lambda", "likelihood_term", "timesteps", "variance"},
)
# Where there are several checkpoints, seeds and arms, one can be taken away, and another one be shown.
WITH_SEVERAL = Pipeline(
    "images",
    Images,
    changes=SEVERAL,
    lists={"arms": ["simple", "tbc"], "models": ["baseline", "simple", "tbc"]},
    others={
        "pretrain.checkpoints": [2],
        "finetune.all.seeds": [0],
        "trajectories.checkpoint": 1,
        "trajectories.finetune_seed": 1,
    },
)
former, several = finished(PIPELINE), finished(WITH_SEVERAL)


@pytest.mark.parametrize("key", PIPELINE.keys)
def test_every_setting_reaches_what_depends_on_it(former, key, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check(key)


@pytest.mark.parametrize("key", [*WITH_SEVERAL.others, "trajectories.arm"])
def test_so_do_those_that_take_one_away_or_show_another(several, key, tmp_path, monkeypatch):
    monkeypatch.chdir(several.copy(tmp_path / "copy"))
    several.check(key)


@pytest.mark.parametrize("name", [stage.name for stage in PIPELINE.stages])
def test_a_stage_reads_no_setting_that_dvc_yaml_does_not_name(former, name, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check_others(name)
