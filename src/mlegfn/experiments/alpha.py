"""What α does: one Gaussian a coordinate cannot hold nine modes, so the divergence decides which it gives up.

Figure 1 of arXiv 2410.09355 shows α = −2, 0.5 and 2; the two KLs stand for the limits α → 0 and α → 1.
"""

from types import SimpleNamespace

import torch

from mlegfn.experiments.continuous_tasks import axes, new_policy
from mlegfn.gflownet.continuous import ContinuousGFlowNet
from mlegfn.gflownet.jensen_shannon import jensen_shannon
from mlegfn.gflownet.training import train
from mlegfn.targets.mixture import GaussianMixture

__all__ = ["experiment"]

HIDDEN = 64
RADIUS = 3.0  # standard deviations of a mode: a disc of 98.9 % of its mass
COVERED = 0.1  # of the target's own density at a mode's centre


def experiment(settings):
    """(the metrics of results/<scale>/metrics/alpha.json without the scale, densities of the first seed).

    settings: divergence_settings.Alpha.
    """
    target = GaussianMixture()
    arms = [
        ("forward_kl", None),
        *((settings.objective, alpha) for alpha in settings.alphas),
        ("reverse_kl", None),
    ]
    grid = axes(target, settings.cells)
    points = torch.cartesian_prod(*grid)
    cell = (grid[0][1] - grid[0][0]) * (grid[1][1] - grid[1][0])
    arrays = {"target": target.log_prob(points).exp().view(settings.cells, -1)}
    near = torch.cdist(points, target.centres).amin(1) < RADIUS * target.variance**0.5
    fixed = SimpleNamespace(
        steps=settings.steps, batch=settings.batch, lr=settings.lr, exploration=0.0, replay=0.0
    )
    rows = []
    for seed in settings.seeds:
        for objective, alpha in arms:
            model = ContinuousGFlowNet(new_policy(target, "alpha", seed, HIDDEN, 1, settings.spread), target)
            options = {"control_variate": "combined"} | ({} if alpha is None else {"alpha": alpha})
            told = f"{objective} {alpha}"
            train(model, objective, fixed, "alpha", seed=seed, description=told, **options)
            density = model.policy.on_grid(grid).exp().double()
            with torch.no_grad():
                at_modes = model.policy.log_prob(target.centres).sum(1).exp()
            rows.append(
                {
                    "objective": objective,
                    "alpha": alpha,
                    "seed": seed,
                    "jsd": jensen_shannon(model.policy, target, settings.cells).value,
                    "modes": int(
                        (at_modes.double() >= COVERED * target.log_prob(target.centres).exp()).sum()
                    ),
                    "mass_inside": (density.flatten()[near].sum() * cell).item(),
                }
            )
            if seed == settings.seeds[0]:
                arrays[objective if alpha is None else f"{objective}:{alpha:g}"] = density
    low, high = (side.tolist() for side in target.box)
    about = (
        f"one Gaussian a coordinate against nine; {settings.steps} steps of {settings.batch} trajectories; "
        "control variate `combined`"
    )
    box = [list(side) for side in zip(low, high)]
    return {"title": "Effect of α", "about": about, "box": box, "rows": rows}, arrays
