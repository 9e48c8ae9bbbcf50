"""A step of our pretraining against the same U-Net in a plain diffusers loop, at the scale ``digits``.

    python benchmarks/training_step.py [--scale digits] [--rounds 15] [--steps 10]

ours:   ``training.loop.train`` with ``pretrain_gradient``, as the stage ``pretrain`` calls it: data draw,
        L_simple, clip, Adam, EMA, warm-up, progress bar, log.
stock:  the loop of diffusers' unconditional example without its progress bar, logs and accelerator:
        UNet2DModel, DDPMScheduler.add_noise, DataLoader over a TensorDataset, clip, AdamW, EMAModel.
tuned:  the same with what its reader may not know: AdamW(fused=True), EMAModel(foreach=True).
bare:   only the network, forward and backward on one batch: what no loop can save.

Then the network's forward and backward in other layouts and precisions, to see whether contiguous fp32 is
the right default. Blocks of steps are interleaved, and ratios are those of medians over the blocks.
Writes benchmarks/results/training_step.json.
"""

import argparse
import copy
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

from loops import SEED, network_only, ours, stock
from machine import finish, interleaved, provenance, ratio


def summary(found, images):
    """{name: medians of images a second and of CPU seconds an image, and the samples}."""
    return {
        name: {
            "images_per_second": images / median(times["wall"]),
            "images_per_cpu_second": images / median(times["cpu"]),
            "wall_seconds_per_block": times["wall"],
            "cpu_seconds_per_block": times["cpu"],
        }
        for name, times in found.items()
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scale", default="digits")
    arguments.add_argument("--rounds", type=int, default=15, help="blocks of each loop")
    arguments.add_argument("--steps", type=int, default=10, help="steps of a block")
    options = arguments.parse_args()
    started, where = time.perf_counter(), provenance()

    import torch

    from mlegfn.data import load as load_data
    from mlegfn.data import scale_to_unit
    from mlegfn.training.checkpoint import initial_network, model_of, process_of
    from reproduction.params import load

    scale = load().images[options.scale]
    data = load_data(scale.data)
    images = scale_to_unit(data.train_images, data.levels)
    record = {"shape": list(images.shape[1:]), "label": data.label}
    process, batch = process_of(scale.diffusion), scale.pretrain.batch

    def network():
        return initial_network(scale, record, SEED).train()

    x, time_ = images[:batch], torch.arange(batch) % process.timesteps
    loops = {
        "ours": ours(scale, images, network(), lambda net: model_of(net, scale, data.levels)),
        "stock": stock(scale, images, network(), process),
        "tuned": stock(scale, images, network(), process, fused=True, foreach=True),
        "bare": network_only(network(), x, time_),
    }
    found = interleaved(
        {name: lambda run=run: run(options.steps) for name, run in loops.items()}, options.rounds
    )
    one = network()
    layouts = {
        "fp32": network_only(copy.deepcopy(one), x, time_),
        "fp32 channels_last": network_only(copy.deepcopy(one), x, time_, channels_last=True),
        "bf16": network_only(copy.deepcopy(one), x, time_, "bf16"),
        "bf16 channels_last": network_only(copy.deepcopy(one), x, time_, "bf16", channels_last=True),
    }
    few = max(1, options.steps // 3)
    tried = interleaved({name: lambda run=run: run(few) for name, run in layouts.items()}, options.rounds)

    paired = [s / o for s, o in zip(found["stock"]["wall"], found["ours"]["wall"])]
    return finish(
        "training_step",
        where,
        started,
        {f"images/s of ours over stock at {options.scale}": (ratio(found, "stock", "ours"), ">=", 1.0)},
        scale=options.scale,
        seed=SEED,
        batch=batch,
        steps_per_block=options.steps,
        rounds=options.rounds,
        parameters=sum(p.numel() for p in one.parameters()),
        loops=summary(found, options.steps * batch),
        ratios_ours_over={
            name: {
                "wall": ratio(found, name, "ours"),
                "cpu": ratio(found, name, "ours", "cpu"),
            }
            for name in ("stock", "tuned", "bare")
        },
        ratio_ours_over_stock_by_round={"median": median(paired), "rounds": paired},
        layouts={
            "blocks": summary(tried, few * batch),
            "speed_over_fp32": {
                name: {clock: ratio(tried, "fp32", name, clock) for clock in ("wall", "cpu")}
                for name in tried
            },
        },
    )


if __name__ == "__main__":
    sys.exit(main())
