"""benchmarks/budget.py and counts.py: their formulas against the counters that the stages keep."""

import json
import sys

import pytest
from helpers.repository import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import budget
import counts
import network_cost

from mlegfn.training.finetuning import ARMS
from reproduction.params import load

PARAMS = load(REPOSITORY / "params.yaml")
METRICS = REPOSITORY / "results" / "digits" / "images" / "metrics"


def committed(kind):
    return [json.loads(path.read_text()) for path in sorted((METRICS / kind).rglob("*.json"))]


def finetunes():
    """Of the stage's metrics those of fine-tunes; the others are of the search."""
    return [run for run in committed("finetune") if "network_evaluations" in run]


def test_fine_tuning_counts_are_those_of_the_committed_run():
    runs = finetunes()
    assert len(runs) == counts.work(PARAMS.images["digits"])["finetune"].parts > 0
    for run in runs:
        forward, backward = counts.finetune(PARAMS.images["digits"], run["arm"])
        assert run["network_evaluations"] == {"forward": forward, "backward": backward}


def test_whole_scale_counts_are_those_of_the_committed_run():
    scale = PARAMS.images["digits"]
    found, nll = counts.work(scale), committed("nll")
    last = [run for run in committed("pretrain") if run["step"] == scale.pretrain.stop]
    assert found["pretrain"].parts == len(committed("pretrain"))
    assert found["pretrain"].backward == sum(run["network_evaluations"]["backward"] for run in last)
    tried = [len(choice["tried"]) for choice in committed("finetune") if "tried" in choice]
    assert found["search"].parts == sum(tried) and len(tried) == len(counts.arms_of(scale))
    assert found["baseline_nll"].parts + found["nll"].parts == len(nll)
    assert found["baseline_nll"].forward + found["nll"].forward == sum(
        run["network_evaluations_per_image"] * run["images"] * len(run["points"]) for run in nll
    )
    estimated = [run["log_p"] for run in nll if run["log_p"]]
    assert found["log_p"].parts == len(estimated)
    assert found["log_p"].forward == sum(
        each["images"] * each["trajectories"] * scale.diffusion.timesteps for each in estimated
    )


def counted(network):
    """[states without, states with a gradient] that go through the network from here on."""
    import torch

    found = [0, 0]

    def count(module, given):
        found[torch.is_grad_enabled()] += len(given[0])

    network.register_forward_pre_hook(count)
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"chunk": 8},  # two passes
        {"chunk": 8, "gradient": "subsampled", "gradient_steps": 3},
        {"chunk": 1000, "gradient": "subsampled", "gradient_steps": 3},  # two passes all the same
        {"chain": "respaced", "chain_steps": 4},
        {"chain": "subtrajectory", "chain_steps": 3, "chunk": 4},
        {"weight": 0.0, "chunk": 8},
    ],
)
@pytest.mark.parametrize("arm", ARMS)
def test_the_formula_is_the_counter(changes, arm):
    """And both are what the network sees, with what is counted nowhere: the evaluations before the first step."""
    import torch

    from mlegfn.training.checkpoint import initial_network, model_of
    from mlegfn.training.finetuning import finetune_gradient

    scale, T = PARAMS.images["smoke"], PARAMS.images["smoke"].diffusion.timesteps
    of_term = counts.settings_of(scale, "reweighted").consistency
    consistency = of_term.model_copy(update=changes)
    settings = counts.settings_of(scale, "simple").model_copy(update={"consistency": consistency})
    network = initial_network(scale, {"shape": [1, 8, 8], "label": "test"}, 0)
    torch.nn.init.normal_(network.conv_out.weight)  # zero, which would leave the bound without a gradient
    errors, seen = [1.0] * T, counted(network)
    objective = finetune_gradient(
        model_of(network, scale, 17, errors),
        torch.zeros(4, 1, 8, 8),
        settings,
        arm,
        (4,),
        0,
        False,
        errors,
        scale.diffusion.variance,
        list(network.parameters()),
    )
    before = counts.length_evaluations(settings, arm, T)
    assert (sum(seen), seen[True]) == before and (before[0] > 0) == (
        arm == "reweighted" and consistency.weight > 0
    )
    objective.accumulate(0)
    step = counts.finetune_step(settings, arm, T)
    spent = objective.evaluations
    assert (spent.forward, spent.backward) == step == (sum(seen) - before[0], seen[True] - before[1])


def test_every_arm_spends_what_the_consistency_term_spends():
    for scale in PARAMS.images.values():
        spent = {counts.finetune(scale, arm)[0] for arm in counts.arms_of(scale)}
        assert len(spent) == 1


def test_seeds_and_combinations_multiply_the_work():
    """Two seeds are two baselines, each with fine-tunes of its own; the search is done once, whatever their number."""
    scale = PARAMS.images["smoke"]
    arms, checkpoints = len(counts.arms_of(scale)), len(scale.pretrain.checkpoints)
    one = scale.model_copy(update={"pretrain": scale.pretrain.model_copy(update={"seeds": [0]})})
    few, more = counts.work(one), counts.work(scale)
    for kind in ("pretrain", "finetune", "baseline_nll", "nll", "log_p"):
        assert more[kind].forward == 2 * few[kind].forward > 0, kind
    assert more["search"] == few["search"] and more["quality"] == few["quality"]
    assert more["search"].parts == 2 * arms and more["finetune"].parts == 2 * arms * checkpoints
    assert more["baseline_nll"].parts == 2 * (checkpoints + 1) and more["log_p"].parts == 2 * (1 + arms)
    stages = {kind: budget.stages(kind, scale) for kind in counts.KINDS}
    assert stages["finetune"] == stages["nll"] == arms and stages["baseline_nll"] == 1
    assert stages["search"] == stages["log_p"] == 0


def test_the_evaluations_behind_log_p_are_those_of_the_network():
    import torch

    from mlegfn.training.checkpoint import initial_network, model_of
    from reproduction.images.measuring import log_p

    scale = PARAMS.images["smoke"]
    network = initial_network(scale, {"shape": [1, 8, 8], "label": "test"}, 0)
    seen = counted(network)
    log_p(model_of(network, scale, 17, [1.0] * 8), torch.zeros(6, 1, 8, 8), scale.nll.log_p, 0)
    assert (sum(seen), seen[True]) == counts.log_p_work(scale, 6)[:2]


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
    part = counts.Work(parts=2, forward=1000, backward=600)
    assert budget.seconds(part, rate) == 600 / 10 + 400 / 40
    # Few images, many steps: the launches decide.
    assert budget.seconds(counts.Work(1, 8, 0, passes=1000), rate) == 1000 * budget.ASSUMED_LATENCY


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
