"""Training of the part *learned noising*: P_F by the bound, and the rates of P_B by what the arm says."""

import math

import torch
from tqdm import tqdm

from mlegfn.data import digits, planar
from mlegfn.data.units import Units
from mlegfn.diffusion.learned_noising import (
    LearnedSchedule,
    ReverseProcess,
    log_noising,
    log_prior,
    noised,
)
from mlegfn.diffusion.schedules import betas
from mlegfn.networks.mlp import TimeMLP
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import batch_indices, generator, seed_layers
from reproduction.consistency.noising_settings import IMAGES

__all__ = ["Pair", "backward_loss", "data_of", "fit", "forward_and_backward", "new_pair", "trajectories"]


class Pair(torch.nn.Module):
    """``reverse``, P_F, and ``schedule``, the rates of P_B."""

    def __init__(self, reverse, schedule):
        super().__init__()
        self.reverse, self.schedule = reverse, schedule


class UNet(torch.nn.Module):
    """Diffusers' U-Net as a function (x [N, 1, 8, 8], time [N]) → ε_θ."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, x, time):
        return self.unet(x, time, return_dict=False)[0]


def data_of(problem, settings, seed):
    """(training data [N, …], test data [test_points, …], what a log-density in the data's units is more, nats).

    Points in the plane are drawn anew for each seed; digits are dequantised by uniform noise and scaled to [−1, 1].
    """
    own = settings.of(problem)
    if problem == IMAGES:
        images = digits.load()
        sets = [images.train_images, images.test_images[: own.test_points]]
        draws = [generator(seed, "noising", problem, use) for use in ("train", "test")]
        train, test = (
            (levels + torch.rand(levels.shape, generator=draw)) * (2 / images.levels) - 1
            for levels, draw in zip(sets, draws, strict=True)
        )
        return train, test, train[0].numel() * math.log(2 / images.levels)
    train, test = (
        planar.sample(problem, count, generator(seed, "noising", problem, use))
        for use, count in (("train", settings.train_points), ("test", own.test_points))
    )
    units = Units.of(train)
    return units.to_model(train), units.to_model(test), units.log_jacobian


def new_pair(problem, settings, seed):
    """The ``Pair`` before training: all arms of a seed start from the same one."""
    own, T = settings.of(problem), settings.diffusion.timesteps
    beta = betas(T, "linear", settings.diffusion.beta_start, settings.diffusion.beta_end)
    signal = torch.cumprod(1 - beta, 0)
    log_snr = (signal.log() - (1 - signal).log()).float()
    with torch.random.fork_rng([]):
        seed_layers(seed, "noising", "init")
        if problem == IMAGES:
            from mlegfn.networks.unet import build_unet, reinitialise

            unet = build_unet(1, 8, (own.hidden, 2 * own.hidden), (False, False), 1, 8, 0.0)
            network = UNet(reinitialise(unet, generator(seed, "noising", "init")))
            shape = (1, 1, 1)  # one rate for all pixels
        else:
            network, shape = TimeMLP(T, own.hidden, 2), (2,)
    return Pair(ReverseProcess(network, log_snr, shape), LearnedSchedule(log_snr, shape))


def trajectories(pair, x, rounds, draw, attached=False):
    """(path [T+1, N·M, …], rates): M = ``rounds`` joint trajectories of each of x [N, …], side by side.

    attached: whether they are differentiable in P_B's rates, as the reparameterised gradient needs.
    """
    rates = pair.schedule.rates()
    if not attached:
        rates = type(rates)(*(part.detach() for part in rates))
    x = x.repeat_interleave(rounds, 0)
    noise = torch.randn(len(rates.scale), *x.shape, generator=draw)
    return noised(x, rates, noise), rates


def forward_and_backward(pair, x, rounds, draw, arm):
    """(P_F's loss, P_B's), nats, each with a gradient for its own parameters; ``pathwise`` has both in the first.

    x [N, …]; every arm sees the noise of ``draw``, and evaluates the network at T·N·M states, all with a gradient.
    """
    pathwise = arm == "pathwise"
    path, rates = trajectories(pair, x, rounds, draw, attached=pathwise)
    log_pf = pair.reverse.log_prob(path)
    bound = -(log_prior(path) + (log_pf - log_noising(path, rates)).sum(0)).mean()
    if arm in ("fixed", "pathwise"):
        return bound, torch.zeros(())
    return bound, backward_loss(pair, path, log_pf.detach(), rounds, arm)


def backward_loss(pair, path, log_pf, rounds, arm):
    """[], nats or nats²: what trains P_B's rates on trajectories that were drawn, with P_F held.

    log_pf [T, N·M]. ``tbc``: ½ Var_τ[log w], whose gradient is that of the bound with a full return and a leave-one-out
    baseline. ``score``: the bound's score function; a draw of x_t is charged with what comes after it, less the mean of
    that over the other trajectories of the same x.
    """
    log_pb = log_noising(path, pair.schedule.rates())
    if arm == "tbc":
        log_w = (log_prior(path) + log_pf.sum(0) - log_pb.sum(0)).view(-1, rounds)
        return consistency(log_w).mean() / 2
    terms = (log_pf - log_pb).detach()
    after = log_prior(path) + terms.flip(0).cumsum(0).flip(0)
    after = after.view(len(after), -1, rounds)
    baseline = (after.sum(2, keepdim=True) - after) / (rounds - 1)
    return -((after - baseline).flatten(1) * log_pb).sum(0).mean()


def fit(pair, data, own, arm, seed, key, steps):
    """Train ``pair`` in place for ``steps`` on data [N, …]; both learning rates fall to 0 along a cosine.

    Data and noise are functions of (seed, key, step): the arms share them.
    """
    groups = [list(pair.reverse.parameters())]
    if arm != "fixed":
        groups.append(list(pair.schedule.parameters()))
    optimizer = torch.optim.Adam(
        [
            {"params": parameters, "lr": lr}
            for parameters, lr in zip(groups, (own.lr, own.backward_lr), strict=False)
        ]
    )
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in tqdm(range(steps), desc=f"{key[-1]} {seed}: {arm}", mininterval=5):
        rows = batch_indices(seed, "/".join(map(str, ("noising", *key))), step, own.batch, len(data))
        draw = generator(seed, "noising", *key, step)
        value = sum(forward_and_backward(pair, data[rows], own.trajectories, draw, arm))
        if not math.isfinite(value.item()):
            raise ValueError(f"the loss is {value.item()} at step {step}; a smaller lr may help")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        for parameters in groups:
            torch.nn.utils.clip_grad_norm_(parameters, own.clip)
        optimizer.step()
        falling.step()
    return pair
