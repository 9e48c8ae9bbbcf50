"""Stage ``bits``: one planar problem as 32 bits → MLE-GFNs with a random, learned or ordered P_B.

In:  nothing but the settings: the data are drawn by mlegfn.data.planar and encoded by mlegfn.data.gray
Out: results/<scale>/bits/metrics/<problem>.json, results/<scale>/bits/samples/<problem>.safetensors
"""

import torch

from mlegfn.artifacts import write_bytes, write_json
from mlegfn.bits.planar import draw
from mlegfn.data import gray
from reproduction.bits import experiment


def run(stage, problem):
    """Train and measure every seed and arm; one that is finished is kept."""
    from safetensors.torch import save

    torch.set_num_threads(1)
    metrics, samples = measure(problem, stage.settings, stage.keep)
    for entry in metrics["runs"]:
        print(
            f"{problem} seed {entry['seed']} {entry['model']:11s} NLL {entry['nll']:.4f} ± "
            f"{entry['nll_standard_error']:.4f} nats (data {metrics['entropy']:.4f}, ELBO {entry['elbo_nll']:.4f}), "
            f"MMD² {entry['mmd']:.2e}"
        )
    tensors = {name: points.float().contiguous() for name, points in samples.items()}
    write_bytes(stage.path("samples", f"{problem}.safetensors"), save(tensors))
    write_json(stage.path("metrics", f"{problem}.json"), {"scale": stage.scale, **metrics})


def measure(problem, settings, keep):
    """All seeds and arms on ``problem``: (metrics, samples of the first seed).

    :param settings: :class:`reproduction.bits.settings.Bits`
    :param keep: as :meth:`reproduction.stage.Stage.keep`
    :returns: the contents of the metrics file without the scale; {"data" or an arm: [sample_points, 2]}, centres of
        cells
    """
    fresh = draw(problem, settings.sample_points, 0, "fresh")
    runs, samples = [], {"data": gray.decode(fresh, gray.INT_SCALE[problem])}
    for seed in settings.seeds:
        for arm in settings.arms:

            def compute(arm=arm, seed=seed):
                fields, points = experiment.measure(problem, arm, settings, seed)
                return fields, {"samples": points}

            fields, tensors = keep(f"{arm}-{seed}", arm_settings(settings, arm, seed), compute)
            runs.append(fields)
            samples.setdefault(arm, tensors["samples"])
    return {
        "problem": problem,
        "int_scale": gray.INT_SCALE[problem],
        "entropy": gray.data_entropy(problem),
        "points": settings.test_points,
        "runs": runs,
        "mmd_points": settings.mmd_points,
        "mmd_floor": _floor(problem, settings, keep),
        "mmd_kernel": "unbiased MMD², kernel exp(−0.1 · Hamming distance) of the 32 bits",
    }, samples


def arm_settings(settings, arm, seed):
    """What one arm of one seed depends on, JSON-able."""
    backward, tbc = experiment.ARMS[arm]
    without = {"seeds", "arms", "mmd_repeats"}
    if backward != "learned":
        without.add("backward_hidden")
    if not tbc:
        without |= {"weight", "policy"}
    if backward != "learned" and not tbc:
        without |= {"backward_points", "trajectories"}
    if backward == "ordered":
        without.add("importance_samples")
    return {"arm": arm, "seed": seed, **settings.model_dump(mode="json", exclude=without)}


def _floor(problem, settings, keep):
    return keep(
        "mmd-floor",
        settings.model_dump(include={"mmd_points", "mmd_repeats"}),
        lambda: (experiment.floor(problem, settings), {}),
    )[0]
