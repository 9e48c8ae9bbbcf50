"""benchmarks/budget.py: its formulas against the counters that the stages keep."""

import json
import sys

import pytest
from helpers.repository import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import budget
import network_cost

from reproduction.params import load

PARAMS = load(REPOSITORY / "params.yaml")
METRICS = REPOSITORY / "results" / "digits" / "images" / "metrics"


def committed(kind):
    return [json.loads(path.read_text()) for path in sorted((METRICS / kind).rglob("*.json"))]


def test_fine_tuning_counts_are_those_of_the_committed_run():
    runs = committed("finetune")
    assert len(runs) == 45
    for run in runs:
        forward, backward = budget.finetune(PARAMS.images["digits"], run["arm"])
        assert run["network_evaluations"] == {"forward": forward, "backward": backward}


def test_whole_scale_counts_are_those_of_the_committed_run():
    found = budget.work(PARAMS.images["digits"])
    last = max(run["network_evaluations"]["backward"] for run in committed("pretrain"))
    assert (found["pretrain"].parts, found["pretrain"].backward) == (6, last)
    assert found["finetune"].backward == sum(
        run["network_evaluations"]["backward"] for run in committed("finetune")
    )
    nll = committed("nll")
    assert found["nll"].parts == len(nll)
    assert found["nll"].forward == sum(
        run["network_evaluations_per_image"] * run["images"] * len(run["points"]) for run in nll
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"chunk": 8},  # two passes
        {"chunk": 8, "gradient": "subsampled", "gradient_steps": 3},
        {"chunk": 1000, "gradient": "subsampled", "gradient_steps": 3},  # two passes all the same
        {"chain": "respaced", "chain_steps": 4},
        {"chain": "subtrajectory", "chain_steps": 3, "chunk": 4},
        {"weight": 0.0, "chunk": 8},
    ],
)
@pytest.mark.parametrize("arm", ["simple", "tbc"])
def test_the_formula_is_the_counter(changes, arm):
    import torch

    from mlegfn.training.checkpoint import initial_network, model_of
    from mlegfn.training.finetuning import finetune_gradient

    scale = PARAMS.images["smoke"]
    settings = scale.finetune.arm(arm)
    if arm == "simple":
        changes = {name: value for name, value in changes.items() if name != "weight"}
    settings = settings.model_copy(update={"consistency": settings.consistency.model_copy(update=changes)})
    network = initial_network(scale, {"shape": [1, 8, 8], "label": "test"}, 0)
    errors = [1.0] * scale.diffusion.timesteps
    accumulate, evaluations = finetune_gradient(
        model_of(network, scale, 17, errors),
        torch.zeros(4, 1, 8, 8),
        settings,
        arm,
        (4,),
        0,
        False,
        errors,
        scale.diffusion.variance,
    )
    accumulate(0)
    counted = budget.finetune_step(settings, arm, scale.diffusion.timesteps)
    assert (evaluations.forward, evaluations.backward) == counted


def test_flops_of_a_convolutional_network_follow_from_its_size():
    """Twice the batch's pixels, twice the work; and the backward pass costs twice the forward one."""
    scale = PARAMS.images["digits"]
    small, large = (network_cost.flops(scale, (1, size, size)) for size in (8, 16))
    time_embedding = 2 * sum(
        p.numel()
        for name, p in network_cost.unet_of(scale, (1, 8, 8), "meta").named_parameters()
        if "time_emb" in name and p.ndim == 2
    )
    attention = large["forward"] - 4 * small["forward"] + 3 * time_embedding
    # The middle block attends over all its pixels: the only part that grows faster than the image.
    assert 0 < attention < 0.1 * large["forward"]
    assert small["forward_backward"] == pytest.approx(3 * small["forward"], rel=0.02)


def test_saved_bytes_grow_with_the_batch_and_weights_do_not():
    import torch

    network = network_cost.unet_of(PARAMS.images["smoke"], (1, 8, 8), "cpu").train()

    def saved(batch, bf16=False):
        return network_cost.saved_bytes(
            network, torch.randn(batch, 1, 8, 8), torch.zeros(batch, dtype=torch.long), bf16
        )

    # Not 8, 16 or 32 images: a matrix of so many rows would pass for a weight.
    one, two, four = (saved(batch) for batch in (3, 6, 12))
    assert four["activations"] - two["activations"] == 2 * (two["activations"] - one["activations"]) > 0
    assert one["weights"] == four["weights"] > 0
    assert saved(12, bf16=True)["activations"] < four["activations"]


def test_hours_are_counts_over_rates():
    rate = {"training": 10.0, "evaluation": 40.0}
    part = budget.Work(parts=2, forward=1000, backward=600)
    assert budget.seconds(part, rate) == 600 / 10 + 400 / 40
    # Few images, many steps: the launches decide.
    assert budget.seconds(budget.Work(1, 8, 0, passes=1000), rate) == 1000 * budget.ASSUMED_LATENCY


def test_more_time_fits_more_checkpoints_and_none_fit_into_none():
    scale = PARAMS.images["cifar10_hour"]
    rate = {"training": 2500.0, "evaluation": 8000.0}
    fits = [budget.fitting(scale, rate, 15, minutes) for minutes in (0, 10, 20, 40, 1e6)]
    assert fits == sorted(fits) and fits[0] == 0 and fits[-1] == len(scale.pretrain.checkpoints)
    whole = budget.budget(scale, rate, 15)["hours"] * 60
    assert budget.fitting(scale, rate, 15, whole) == fits[-1]
    assert budget.fitting(scale, rate, 15, whole - 0.01) < fits[-1]


def test_the_hour_is_an_hour_at_the_assumed_rates():
    scale = PARAMS.images["cifar10_hour"]
    rate = {"training": 2500.0, "evaluation": 8000.0}
    assert budget.budget(scale, rate, budget.ASSUMED_OVERHEAD)["hours"] <= 55 / 60
