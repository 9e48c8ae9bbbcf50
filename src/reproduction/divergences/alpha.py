"""Stage ``divergences.alpha``: a policy too small for its target, trained by divergences of α from −2 to 2.

In:  nothing but the settings
Out: metrics/alpha.json, densities/alpha.safetensors (densities of the first seed)

One Gaussian a coordinate cannot hold nine modes, so the divergence decides which it gives up. Figure 1 of
arXiv 2410.09355 shows α = −2, 0.5 and 2; the two KLs stand for the limits α → 0 and α → 1. Each α and seed is a part.
"""

from functools import partial
from types import SimpleNamespace

import torch
from safetensors.torch import save

from mlegfn.artifacts import write_bytes, write_json
from mlegfn.gflownet.continuous import ContinuousGFlowNet
from mlegfn.gflownet.jensen_shannon import jensen_shannon
from mlegfn.gflownet.training import train
from mlegfn.targets.mixture import GaussianMixture
from reproduction.divergences.continuous_tasks import axes, new_policy

__all__ = ["run"]

HIDDEN = 64
RADIUS = 3.0  # standard deviations of a mode: a disc of 98.9 % of its mass
COVERED = 0.1  # of the target's own density at a mode's centre


def run(stage):
    torch.set_num_threads(1)
    settings, target = stage.settings.alpha, GaussianMixture()
    points = torch.cartesian_prod(*axes(target, settings.cells))
    arrays = {"target": target.log_prob(points).exp().view(settings.cells, -1).float()}
    depends = settings.model_dump(exclude={"alphas", "objective", "seeds"})
    rows = []
    for seed in settings.seeds:
        for objective, alpha in _arms(settings):
            label = objective if alpha is None else f"{objective}:{alpha:g}"
            compute = partial(measure, target, objective, alpha, seed, settings)
            part = f"{label.replace(':', '_')}-{seed}"
            row, density = stage.keep(part, {**depends, "alpha": alpha}, compute)
            rows.append(row)
            if seed == settings.seeds[0]:
                arrays[label] = density["density"]
            print(
                f"seed {seed} {objective:10s} α {alpha}: JSD {row['jsd']:.4f}, modes {row['modes']}, "
                f"mass inside {row['mass_inside']:.3f}"
            )
    about = (
        f"one Gaussian a coordinate against nine; {settings.steps} steps of {settings.batch} trajectories; "
        "control variate `combined`"
    )
    box = [list(side) for side in zip(*(end.tolist() for end in target.box))]
    write_bytes(stage.path("densities", "alpha.safetensors"), save(arrays))
    metrics = {"scale": stage.scale, "title": "Effect of α", "about": about, "box": box, "rows": rows}
    write_json(stage.path("metrics", "alpha.json"), metrics)


def _arms(settings):
    """[(objective, α)], the two limits without an α."""
    return [
        ("forward_kl", None),
        *((settings.objective, alpha) for alpha in settings.alphas),
        ("reverse_kl", None),
    ]


def measure(target, objective, alpha, seed, settings):
    """(one entry of ``rows`` in the metrics file, {"density": [cells, cells] float32})."""
    grid = axes(target, settings.cells)
    points = torch.cartesian_prod(*grid)
    cell = (grid[0][1] - grid[0][0]) * (grid[1][1] - grid[1][0])
    near = torch.cdist(points, target.centres).amin(1) < RADIUS * target.variance**0.5
    fixed = SimpleNamespace(
        steps=settings.steps, batch=settings.batch, lr=settings.lr, exploration=0.0, replay=0.0
    )
    model = ContinuousGFlowNet(new_policy(target, "alpha", seed, HIDDEN, 1, settings.spread), target)
    options = {"control_variate": "combined"} | ({} if alpha is None else {"alpha": alpha})
    train(model, objective, fixed, "alpha", seed=seed, description=f"{objective} {alpha}", **options)
    density = model.policy.on_grid(grid).exp().double()
    with torch.no_grad():
        at_modes = model.policy.log_prob(target.centres).sum(1).exp()
    row = {
        "objective": objective,
        "alpha": alpha,
        "seed": seed,
        "jsd": jensen_shannon(model.policy, target, settings.cells).value,
        "modes": int((at_modes.double() >= COVERED * target.log_prob(target.centres).exp()).sum()),
        "mass_inside": (density.flatten()[near].sum() * cell).item(),
    }
    return row, {"density": density.float()}
