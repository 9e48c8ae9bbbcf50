"""How many network evaluations the stratified NLL needs, against the full sum over t, at DDPM's T = 1000.

    python benchmarks/nll_fast.py [--images PATH --label NAME] [--channels 16 32] [--steps 2000] [--test 200]

A small U-Net with DDPM's linear schedule and `large` variances is trained for --steps on real images (digits, or
--images: a folder or archive as for `data.path`). Then, on --test test images:

full:       every term of the full sum, so that its value and the spread of every term over images are known
stratified: --seeds designs at each of several budgets, their terms looked up in the full table (one design is
            evaluated afresh, to show that they are the same): error against the full sum, and the error claimed
needed:     evaluations an image at which 1.96 standard errors are ±0.01 bits/dim on 1,000 images and ±0.005 on
            10,000, computed from the measured spreads by the formula of the standard error, since so many images
            were not evaluated here; for comparison, with the allocation that is optimal for these very spreads

Writes benchmarks/results/nll_fast-<label>.json.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent))

from machine import finish, provenance

SEED, T = 0, 1000
BUDGETS = (20, 50, 100, 200)  # evaluations an image, on average
GOALS = {1000: 0.01, 10000: 0.005}  # images: half-width of the 95 % interval, bits/dim
SHOWN = (1, 2, 3, 5, 10, 20, 50, 100, 200, 300, 400, 500, 700, 1000)


def trained(options):
    """(model of the EMA network, unit test images, what was trained)."""
    from mlegfn.data import archive, digits, scale_to_unit
    from mlegfn.training.checkpoint import build_network, initial_network, model_of
    from mlegfn.training.loop import train
    from mlegfn.training.pretraining import pretrain_gradient
    from mlegfn.training.state import new_state
    from reproduction.params import load

    data = archive.load(options.images) if options.images else digits.load()
    base = load().images["digits"]
    update = {"block_out_channels": options.channels, "attention": [False] * len(options.channels)}
    scale = base.model_copy(
        update={
            "network": base.network.model_copy(update=update),
            "diffusion": base.diffusion.model_copy(
                update={"timesteps": T, "beta_start": 1e-4, "beta_end": 0.02, "variance": "large"}
            ),
        }
    )
    images = scale_to_unit(data.train_images, data.levels)
    network = initial_network(scale, data.record, SEED)
    state = new_state(network, scale.pretrain.optimizer)
    own = SimpleNamespace(seed=SEED, batch=options.batch)
    accumulate = pretrain_gradient(model_of(network, scale, data.levels), images, own, flip=False)
    losses = []
    train(
        state,
        accumulate,
        scale.pretrain.optimizer,
        options.steps,
        after_step=lambda _, entry: losses.append(entry["loss"]),
    )
    averaged = build_network(scale, data.record)
    averaged.load_state_dict(state.ema_weights())
    about = {
        "images_trained_on": len(images),
        "channels": options.channels,
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": options.steps,
        "batch": options.batch,
        "loss_of_last_100_steps": sum(losses[-100:]) / len(losses[-100:]),
        "levels": data.levels,
    }
    test = scale_to_unit(data.test_images[: options.test], data.levels)
    return model_of(averaged.eval(), scale, data.levels), test, about


def looked_up(plan, table):
    """The ``Terms`` that ``plan`` asks for, from the tables [T+1, N] of all terms."""
    import torch

    from mlegfn.diffusion.stratified import Terms

    image = torch.cat([plan.image, torch.arange(plan.images)])
    step = torch.cat([plan.step, torch.full((plan.images,), T)])
    return Terms(image, step, *(values[step, image] for values in table))


def budgets(images):
    """Those of BUDGETS that give every step its two images."""
    return [budget for budget in BUDGETS if budget * images >= images + 2 * (T - 1)]


def tried(process, table, dims, seeds):
    """[{budget, observed and claimed error, …}]: ``seeds`` designs at each budget, at one noise."""
    from mlegfn.diffusion.likelihood import reduce_table
    from mlegfn.diffusion.stratified import design, reduce_terms

    full, rows = reduce_table(*table, dims).per_image.mean().item(), []
    for place, budget in enumerate(budgets(table[0].shape[1])):
        errors, claimed = [], []
        for seed in range(seeds * place, seeds * (place + 1)):  # no design of one budget is part of another's
            plan = design(process, table[0].shape[1], budget, seed)
            found = reduce_terms(plan, looked_up(plan, table), dims)
            errors.append(found.per_image.mean().item() - full)
            claimed.append(found.standard_error)
        ratios = [e / c for e, c in zip(errors, claimed)]
        rows.append(
            {
                "evaluations_per_image": found.evaluations,
                "fewer": T / found.evaluations,
                "designs": seeds,
                "mean_error": sum(errors) / seeds,
                "rms_error": _rms(errors),
                "standard_error_claimed": _rms(claimed),
                "rms_of_error_over_claimed": _rms(ratios),
                "within_1.96_claimed": sum(abs(r) <= 1.96 for r in ratios) / seeds,
            }
        )
    return rows


def _rms(values):
    return (sum(v * v for v in values) / len(values)) ** 0.5


def needed(process, variances):
    """{images: evaluations an image that reach the goal, ours and with the optimal allocation}."""
    from mlegfn.diffusion.stratified import allocation, sampling_variance

    found = {}
    for images, goal in GOALS.items():

        def half_width(evaluations, images=images):
            counts = allocation(process, images, evaluations)
            return 1.96 * sampling_variance(counts, variances, images).sqrt().item()

        ours = _least(half_width, goal, 1 + 2 * T / images)
        best = _least(lambda e, n=images: 1.96 * _optimal(variances, n, e) ** 0.5, goal, 1 + 2 * T / images)
        counts = allocation(process, images, ours)
        at_ours = sampling_variance(counts, variances, images).item()
        found[images] = {
            "half_width": goal,
            "evaluations_per_image": counts.sum().item() / images,
            "fewer": T * images / counts.sum().item(),
            "fewer_if_the_spreads_were_known": T / best,
            "variance_over_optimal": at_ours / _optimal(variances, images, counts.sum().item() / images),
            "steps_with_all_images": (counts == images).sum().item(),
            "how": "computed from the measured spreads",
        }
    return found


def _least(half_width, goal, low):
    """The smallest number of evaluations whose half-width is at most the goal, to 0.1 %."""
    if half_width(low) <= goal:
        return low
    high = float(T)
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if half_width(middle) > goal else (low, middle)
    return high


def _optimal(variances, images, evaluations):
    """The sampling variance when n_t ∝ s_t, within 2 … N: Neyman's allocation, which needs the spreads first."""
    from mlegfn.diffusion.stratified import sampling_variance

    deviations, low, high = variances.sqrt(), 0.0, 1e12
    for _ in range(200):
        middle = (low + high) / 2
        total = (middle * deviations).clamp(2, images).sum()
        low, high = (middle, high) if total <= images * evaluations else (low, middle)
    return sampling_variance((low * deviations).clamp(2, images), variances, images).item()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--images", help="a folder or archive of images instead of digits")
    arguments.add_argument("--label", help="what these images are, for the result's name")
    arguments.add_argument("--channels", type=int, nargs="+", default=[16, 32])
    arguments.add_argument("--steps", type=int, default=2000)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--test", type=int, default=200, help="test images")
    arguments.add_argument("--seeds", type=int, default=40, help="designs at each budget")
    options = arguments.parse_args()
    if options.images and not options.label:
        arguments.error("--images needs a --label")
    if not budgets(options.test):
        arguments.error(f"--test must be at least {math.ceil(2 * (T - 1) / (BUDGETS[-1] - 1))}")
    label = options.label or "digits"
    started, where = time.perf_counter(), provenance()

    import torch

    from mlegfn.diffusion.likelihood import bound_table, reduce_table
    from mlegfn.diffusion.stratified import design, sampled_terms

    model, test, about = trained(options)
    dims, at = test[0].numel(), time.perf_counter()
    table = bound_table(model, test, SEED, batch=250, description="full sum")
    full, full_seconds = reduce_table(*table, dims), time.perf_counter() - at
    plan, at = design(model.process, len(test), budgets(len(test))[0], SEED), time.perf_counter()
    afresh = sampled_terms(model, test, plan, SEED, batch=250, description="stratified")
    afresh_seconds = time.perf_counter() - at
    same = (afresh.value - looked_up(plan, table).value).abs() / (dims * math.log(2))

    deviations = (table[0][:T] / (dims * math.log(2))).std(1)
    rows = tried(model.process, table, dims, options.seeds)
    goals = needed(model.process, deviations**2)
    print(
        f"{label}: {full.per_image.mean():.4f} bits/dim on {len(test)} images by the full sum over {T} steps"
    )
    for row in rows:
        print(
            f"{row['evaluations_per_image']:6.1f} evaluations an image ({row['fewer']:.0f}x fewer): RMS error "
            f"{row['rms_error']:.5f}, claimed {row['standard_error_claimed']:.5f}, "
            f"RMS of error/claimed {row['rms_of_error_over_claimed']:.2f}"
        )
    bars = {
        f"full sum's evaluations over ours, {images:,} images to ±{goal['half_width']} bits/dim": (
            goal["fewer"],
            ">=",
            10,
        )
        for images, goal in goals.items()
    }
    worst = max(abs(row["rms_of_error_over_claimed"] - 1) for row in rows)
    bars["|RMS of error over claimed error - 1|, worst budget"] = (worst, "<=", 0.3)
    bars["variance over the optimal allocation's, worst goal"] = (
        max(goal["variance_over_optimal"] for goal in goals.values()),
        "<=",
        1.5,
    )
    return finish(
        f"nll_fast-{label}",
        where,
        started,
        bars,
        images=label,
        seed=SEED,
        timesteps=T,
        schedule="linear, 1e-4 to 0.02",
        variance="large",
        decoder=model.decoder,
        trained=about,
        test_images=len(test),
        dims=dims,
        full={
            "bits_per_dim": full.per_image.mean().item(),
            "deviation_over_images": full.per_image.std().item(),
            "evaluations_per_image": T,
            "seconds": full_seconds,
        },
        evaluated_afresh={
            "evaluations_per_image": len(plan.image) / len(test),
            "seconds": afresh_seconds,
            "largest_difference_of_a_term_bits_per_dim": same.max().item(),
        },
        budgets=rows,
        needed=goals,
        spreads={
            "t": SHOWN,
            "mean_bits_per_dim": [full.terms[t - 1].item() for t in SHOWN],
            "deviation_over_images": [deviations[t - 1].item() for t in SHOWN],
            "sum_of_deviations": deviations.sum().item(),
        },
        torch_threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    sys.exit(main())
