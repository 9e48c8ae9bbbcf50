"""Samplers of one ε-network: diffusers' schedulers on our noising process, and the ancestral chain."""

from dataclasses import dataclass

import torch

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import fixed_log_variance

__all__ = ["SOLVERS", "draw", "scheduler"]


@dataclass(frozen=True)
class Solver:
    """title; the name of diffusers' class and what it is made with; ``step``: more arguments of its step; ``noisy``:
    whether its step takes a generator; ``order``: evaluations of the network a step."""

    title: str
    scheduler: str | None
    arguments: dict
    step: dict
    noisy: bool
    order: int = 1


SOLVERS = {
    "ancestral": Solver("ancestral (DDPM), σ² = β_t", None, {}, {}, True),
    "ddim_1": Solver("DDIM, η = 1", "DDIMScheduler", {"clip_sample": False}, {"eta": 1.0}, True),
    "ddim": Solver("DDIM, η = 0", "DDIMScheduler", {"clip_sample": False}, {"eta": 0.0}, True),
    "dpm": Solver("DPM-Solver++ (2M)", "DPMSolverMultistepScheduler", {"solver_order": 2}, {}, True),
    "heun": Solver("Heun", "HeunDiscreteScheduler", {}, {}, False, order=2),
}


def scheduler(name, process, steps):
    """diffusers' scheduler of SOLVERS[name] with ``steps`` steps on ``process``'s own β.

    Its times are spaced ``trailing``: of T, T − T/steps, …, T/steps, 0-based, to data. They are those of
    ``process.respaced(steps)`` where steps divides T; ValueError where it does not and the scheduler takes one evaluation a
    step, for DDIM's and the chain's would differ then.
    """
    import diffusers

    solver = SOLVERS[name]
    if solver.order == 1 and process.timesteps % steps:
        raise ValueError(f"{steps} steps do not divide T = {process.timesteps}")
    made = getattr(diffusers, solver.scheduler)(
        num_train_timesteps=process.timesteps,
        trained_betas=process.beta[1:].numpy(),
        timestep_spacing="trailing",
        **solver.arguments,
    )
    made.set_timesteps(steps)
    return made


@torch.no_grad()
def draw(name, network, process, shape, evaluations, generator):
    """(x_0 [N, C, H, W], evaluations of the network a sample, at most as many as asked for).

    network(x, time) with 0-based times, whole or (Heun's) fractional.
    """
    solver = SOLVERS[name]
    steps = (evaluations + solver.order - 1) // solver.order
    if solver.scheduler is None:
        chain = process.respaced(steps)
        model = DenoisingModel(network, chain, fixed_log_variance(chain, "large"))
        return model.sample_pf(shape, generator, keep=[0])[0], steps
    made = scheduler(name, process, steps)
    x = torch.randn(shape, generator=generator) * made.init_noise_sigma
    more = {**solver.step, **({"generator": generator} if solver.noisy else {})}
    for time in made.timesteps:
        eps = network(made.scale_model_input(x, time), time.expand(len(x)))
        x = made.step(eps, time, x, **more).prev_sample
    return x, len(made.timesteps)
