"""Every setting of the image experiment, changed, reaches what depends on it."""

import pytest
from helpers.every_setting import Pipeline, finished
from helpers.image_stages import raw_settings

from reproduction.images.settings import Images

TINY = {
    "data.train_limit": 16,
    "data.test_limit": 4,
    "data.validation": 4,
    "network.block_out_channels": [8],
    "network.attention": [False],
    "diffusion.timesteps": 4,
    "diffusion.variance_samples": 4,
    "pretrain.checkpoints": [2],
    "pretrain.stop": 3,
    "pretrain.batch": 4,
    "pretrain.seeds": [0],
    "finetune.all.search.checkpoint": 2,
    "finetune.all.evaluate_at": [2],
    "finetune.all.batch": 4,
    "finetune.all.consistency.chain": "respaced",
    "finetune.all.consistency.chain_steps": 3,
    "finetune.all.consistency.gradient": "subsampled",
    "finetune.all.consistency.gradient_steps": 2,
    "finetune.simple.lr": [0.001],
    "finetune.reweighted.weight": [0.1],
    "finetune.simple_tbc.loss": "huber",
    "finetune.simple_tbc.huber_delta": 0.5,
    "finetune.simple_tbc.weight": [0.1],
    "finetune.simple_tbc.weight_warmup": 2,
    "nll.estimator": "stratified",
    "nll.evaluations": 3,
    "nll.log_p.images": 2,
    "nll.log_p.trajectories": 2,
    "trajectories.checkpoint": 2,
    "quality.samples": 4,
}
SEVERAL = TINY | {
    "pretrain.checkpoints": [1, 2],
    "pretrain.seeds": [0, 1],
    **{f"finetune.{arm}.lr": [0.001, 0.002] for arm in ("simple", "simple_tbc", "reweighted")},
}


def keys_of(arm):
    return [f"finetune.{arm}.{key}" for key in raw_settings()["finetune"][arm] if key != "policy"]


ELSEWHERE = "the other pipeline runs its arm"
MACHINE = "no stage depends on it"
GPU = "of a GPU"
PIPELINE = Pipeline(
    "images",
    Images,
    changes=TINY,
    lists={"arm_runs": ["smoke-simple_tbc"]},
    others={
        "machine.live": "tensorboard",
        "compute.precision": "bf16",
        "compute.evaluation": "bf16",
        "network.block_out_channels": [12],
        "network.norm_num_groups": 2,
        "pretrain.checkpoints": [1, 2],
        "pretrain.seeds": [0, 1],
        "finetune.all.evaluate_at": [1, 2],
        "finetune.all.consistency.chunk": 3,
        "finetune.all.optimizer.clip": 0.001,
        "nll.log_p.trajectories": 4,
        "nll.batch": 2,
        "quality.samples": 3,
    },
    refused={
        "data.source": ("archive", "data.path: must name the images' folder"),
        "data.path": ("images.zip", "data.path: is for the source `archive`"),
        "data.per_batch": (5, "data.per_batch: is for the source `cifar10`"),
        "data.sha256_train": ("0" * 64, "data: sha256_train: expected 000"),
        "data.sha256_test": ("0" * 64, "data: sha256_test: expected 000"),
        "finetune.simple_tbc.policy": ("backward", "finetune.simple_tbc.policy: expected forward"),
        "finetune.reweighted.policy": ("backward", "finetune.reweighted.policy: expected forward"),
        "finetune.all.search.checkpoint": (1, "finetune.all.search.checkpoint: must be one of"),
        "finetune.all.search.seed": (1, "finetune.all.search.seed: must be one of pretrain.seeds"),
        "trajectories.checkpoint": (1, "trajectories.checkpoint: must be one of pretrain.checkpoints"),
        "trajectories.pretrain_seed": (1, "trajectories.pretrain_seed: must be one of pretrain.seeds"),
        "trajectories.arm": ("simple", "checkpoints/simple/2-0/step-2: not found"),
        "quality.inception": ("weights.pth", "quality: weights.pth: cannot be read"),
    },
    same={
        **{f"machine.{key}": MACHINE for key in ("accelerator", "save_every_minutes", "live")},
        **{f"compute.{key}": GPU for key in ("compile", "cuda_graphs", "deterministic")},
        **{key: ELSEWHERE for arm in ("simple", "reweighted") for key in keys_of(arm)},
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
        "pretrain.seeds",
        "finetune.all.evaluate_at",
    },
    echoes={
        "decoder",
        "estimator",
        "lambda",
        "likelihood_term",
        "optimizer",
        "timesteps",
        "trial",
        "variance",
    },
)
# Where there are several checkpoints, seeds and arms, one can be taken away, and another one be shown.
WITH_SEVERAL = Pipeline(
    "images",
    Images,
    changes=SEVERAL,
    lists={"arm_runs": ["smoke-simple", "smoke-simple_tbc", "smoke-reweighted"]},
    others={
        "pretrain.checkpoints": [2],
        "pretrain.seeds": [0],
        "trajectories.checkpoint": 1,
        "trajectories.pretrain_seed": 1,
        "finetune.all.search.checkpoint": 1,
        "finetune.all.search.seed": 1,
        "finetune.simple.lr": [0.01, 0.02],
        "finetune.simple.warmup": [0],
    },
)
REWEIGHTED = Pipeline(
    "images",
    Images,
    changes=TINY | {"trajectories.arm": "reweighted", "finetune.reweighted.loss": "huber"},
    lists={"arm_runs": ["smoke-reweighted"]},
    others={
        "finetune.reweighted.lr": [0.01],
        "finetune.reweighted.warmup": [0],
        "finetune.reweighted.weight": [0.5],
        "finetune.reweighted.weight_warmup": 2,
        "finetune.reweighted.loss": "square",
        "finetune.reweighted.huber_delta": 0.001,
        "finetune.reweighted.per_dimension": True,
    },
)
former, several, reweighted = finished(PIPELINE), finished(WITH_SEVERAL), finished(REWEIGHTED)


@pytest.mark.parametrize("key", PIPELINE.keys)
def test_every_setting_reaches_what_depends_on_it(former, key, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check(key)


@pytest.mark.parametrize("key", [*WITH_SEVERAL.others, "trajectories.arm"])
def test_so_do_those_that_take_one_away_or_show_another(several, key, tmp_path, monkeypatch):
    monkeypatch.chdir(several.copy(tmp_path / "copy"))
    several.check(key)


@pytest.mark.parametrize("key", REWEIGHTED.others)
def test_so_do_those_of_the_control_of_equal_length(reweighted, key, tmp_path, monkeypatch):
    monkeypatch.chdir(reweighted.copy(tmp_path / "copy"))
    reweighted.check(key)


@pytest.mark.parametrize("name", [stage.name for stage in PIPELINE.stages])
def test_a_stage_reads_no_setting_that_dvc_yaml_does_not_name(former, name, tmp_path, monkeypatch):
    monkeypatch.chdir(former.copy(tmp_path / "copy"))
    former.check_others(name)
