"""GFlowNet-EM (Hu et al. 2023, arXiv 2302.06576) in the plane, beside exact EM and mean-field EM.

    z_k ~ Bernoulli(π_k), k ≤ K;    x | z ~ N(A z + b, σ² I), x in the plane: binary factor analysis

Only together do the bits explain x, so the posterior p(z|x) does not factorise; 2^K is small enough to enumerate, so
everything is measured exactly. All arms start from equal parameters, see equal batches, and take one gradient step
on E_{z ~ q(·|x)} log p(x, z) each time (the M-step). They differ in q (the E-step):

    exact       p(z|x), enumerated
    gflownet    sets one bit at a time in any order: P_F(·|x) a network, P_B uniform over the bits that are set,
                trained by trajectory balance with R(z) = p(x, z). log Z(x) is the mean over the trajectories of x
                (the log-variance form, objectives/consistency.py). Half of them explore; the M-step uses the others
    mean-field  Π_k q(z_k|x), by coordinate ascent for every x
    prior       p(z): no E-step at all, to see that it matters

Run: python examples/gflownet_em.py    → examples/results/gflownet_em.{json,png}
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

from mlegfn.artifacts import write_bytes
from mlegfn.data import planar
from mlegfn.networks.mlp import plane_waves
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import generator, seed_layers
from mlegfn.trajectory import score
from reproduction.drawing import style

PROBLEM, BITS, HIDDEN, EMPTY = "moons", 6, 64, -1
BATCH, TRAJECTORIES, EXPLORE = 64, 4, 0.1
WARM_UP, E_STEPS, E_RATE, M_RATE = 150, 2, 0.02, 0.02  # E-steps before the first M-step, and for each
Z = torch.cartesian_prod(*[torch.arange(2.0)] * BITS)  # [2^K, K]: row r is r in binary
PLACE = 2 ** torch.arange(BITS - 1, -1, -1)
# sines and cosines of x: with x alone, networks are too smooth to follow the posterior as the model sharpens
WAVES = plane_waves()[:, :16]


class FactorAnalysis(nn.Module):
    def __init__(self):
        super().__init__()
        self.prior, self.log_sigma = nn.Parameter(torch.zeros(BITS)), nn.Parameter(torch.tensor(-0.7))
        self.mean = nn.Linear(BITS, 2)
        nn.init.normal_(self.mean.weight, 0, 0.8)

    def log_prior(self):
        """[2^K]: log p(z)."""
        return bernoulli(self.prior[None])[0]

    def log_joint(self, x):
        """[N, 2^K]: log p(x, z) for every z, nats."""
        mean = self.mean(2 * Z - 1)
        return self.log_prior() + Normal(mean, self.log_sigma.exp()).log_prob(x[:, None]).sum(2)


def bernoulli(logit):
    """[N, 2^K]: log Π_k q(z_k) for every z; logit [N, K]."""
    return F.logsigmoid(logit) @ Z.T + F.logsigmoid(-logit) @ (1 - Z).T


class GFlowNet(nn.Module):
    def __init__(self):
        super().__init__()
        inputs = 2 + 2 * WAVES.shape[1] + 2 * BITS
        hidden = [nn.Linear(inputs, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU()]
        self.network = nn.Sequential(*hidden, nn.Linear(HIDDEN, 2 * BITS))

    def log_policy(self, x, state):
        """[N, 2K]: log P_F of setting bit k to v, at 2k + v; state int64 [N, K] in {−1, 0, 1}."""
        angle, unset = x @ WAVES, state == EMPTY
        logits = self.network(torch.cat([x, angle.sin(), angle.cos(), state == 0, state == 1], 1))
        return logits.masked_fill(~unset.repeat_interleave(2, 1), -torch.inf).log_softmax(1)

    def e_step(self, model, x, rng):
        """(loss, q [N, 2^K]): the balance of trajectories, and frequencies of the z of those that do not explore."""
        explore = EXPLORE * (torch.arange(TRAJECTORIES) >= TRAJECTORIES // 2).repeat(len(x))[:, None]
        pair = Given(self, x.repeat_interleave(TRAJECTORIES, 0))
        trajectory = score(pair, pair.sample_pf((len(x) * TRAJECTORIES, BITS), rng, explore))
        z = (trajectory.states[0] * PLACE).sum(1).view(len(x), TRAJECTORIES)
        log_reward = model.log_joint(x).detach().gather(1, z)
        loss = consistency(log_reward - trajectory.log_w.view(len(x), TRAJECTORIES)).mean()
        return loss, F.one_hot(z[:, : TRAJECTORIES // 2], len(Z)).to(x.dtype).mean(1)

    def log_q(self, model, x):
        """[N, 2^K]: log q(z|x) exactly, summed over all orders: the flow through all 3^K states."""
        states = torch.cartesian_prod(*[torch.arange(3)] * BITS) - 1
        flow = torch.zeros(len(x), len(states), dtype=x.dtype)
        flow[:, 0] = 1
        for bits_set in range(BITS):
            here = ((states != EMPTY).sum(1) == bits_set).nonzero()[:, 0]
            policy = self.log_policy(x.repeat_interleave(len(here), 0), states[here].repeat(len(x), 1)).exp()
            action = 3 ** torch.arange(BITS - 1, -1, -1)[:, None] * torch.tensor(
                [1, 2]
            )  # added to a state's row
            after = (here[:, None] + action.flatten()).clamp(
                max=len(states) - 1
            )  # flow 0 where it is not legal
            out = policy.view(len(x), len(here), -1) * flow[:, here, None]
            flow = flow.index_add(1, after.flatten(), out.flatten(1))
        return flow[:, (states != EMPTY).all(1)].log()


class Given:
    """The GFlowNet's policies for N given x: a ``MarkovPair`` (mlegfn/trajectory.py). x_T is empty, x_0 is z."""

    timesteps = BITS

    def __init__(self, network, x):
        self.log_policy, self.x = network.log_policy, x

    def log_prior(self, x_T):
        return torch.zeros(len(x_T), dtype=self.x.dtype)

    def log_pf(self, x_prev, x_t, t):
        bit = (x_prev != x_t).int().argmax(1, keepdim=True)
        policy = self.log_policy(self.x.repeat(len(t) // len(self.x), 1), x_t)
        return policy.gather(1, 2 * bit + x_prev.gather(1, bit))[:, 0]

    def log_pb(self, x_prev, x_t, t):
        return -torch.log(BITS + 1 - t.to(self.x.dtype))  # one of the bits that are set in x_prev

    @torch.no_grad()
    def sample_pf(self, shape, rng, explore=0.0):
        states = [torch.full(shape, EMPTY)]
        for _ in range(BITS):
            policy = self.log_policy(self.x, states[-1]).exp()
            legal = (states[-1] == EMPTY).repeat_interleave(2, 1) / (
                2 * (states[-1] == EMPTY).sum(1, keepdim=True)
            )
            action = torch.multinomial(torch.lerp(policy, legal, explore + 0 * legal), 1, generator=rng)
            states.append(states[-1].scatter(1, action // 2, action % 2))
        return torch.stack(states[::-1])

    def sample_pb(self, x0, rng):
        rank = torch.rand(x0.shape, generator=rng).argsort(1).argsort(1)
        return torch.stack([torch.where(rank < BITS - t, x0, EMPTY) for t in range(BITS + 1)])


class Computed(nn.Module):
    """An E-step with nothing to train: ``log_q(model, x)`` [N, 2^K]."""

    def __init__(self, log_q):
        super().__init__()
        self.log_q = torch.no_grad()(log_q)

    def e_step(self, model, x, rng):
        return None, self.log_q(model, x).exp()


def mean_field(model, x, sweeps=5):
    """Coordinate ascent of the bound: logit q(z_k = 1) ← E_{q(z_{−k})}[log p(x, z_k = 1, …) − log p(x, z_k = 0, …)]."""
    log_joint, logit = model.log_joint(x), torch.zeros(len(x), BITS)
    for bit in [*range(BITS)] * sweeps:
        q = bernoulli(logit).exp().view(-1, *[2] * BITS)
        others = (q + q.flip(bit + 1)).flatten(1)  # q(z_{−k}) at every z
        logit[:, bit] = (others * (2 * Z[:, bit] - 1) * log_joint).sum(1)
    return bernoulli(logit)


ARMS = {
    "exact": lambda: Computed(lambda model, x: model.log_joint(x).log_softmax(1)),
    "gflownet": GFlowNet,
    "mean-field": lambda: Computed(mean_field),
    "prior": lambda: Computed(lambda model, x: model.log_prior().expand(len(x), -1)),
}


def fit(arm, seed, iterations, every=50):
    """One arm and seed: {"iteration", "test_log_likelihood" (nats a point), "kl" (mean D_KL(q ‖ p(z|x)), nats)}."""
    train_x, test_x = (
        planar.sample(PROBLEM, 2000, generator(0, "gflownet-em", each)).float() for each in "ab"
    )
    with torch.random.fork_rng([]):
        seed_layers(seed, "gflownet-em")
        model, inference = FactorAnalysis(), ARMS[arm]()
    trained = bool(list(inference.parameters()))
    optimizers = [torch.optim.Adam(model.parameters(), M_RATE)]
    if trained:
        optimizers.append(torch.optim.Adam(inference.parameters(), E_RATE))
    found = {"iteration": [], "test_log_likelihood": [], "kl": []}
    for step in range(-WARM_UP, E_STEPS * iterations + 1):
        is_m_step = step >= 0 and step % E_STEPS == 0
        if not (is_m_step or trained):
            continue
        if is_m_step and step % (E_STEPS * every) == 0:
            for key, value in zip(found, (step // E_STEPS, *measure(model, inference, test_x))):
                found[key].append(value)
        rng = generator(seed, "gflownet-em", step)
        x = train_x[torch.randint(len(train_x), (BATCH,), generator=rng)]
        e_loss, q = inference.e_step(model, x, rng)
        losses = (-(q * model.log_joint(x)).sum(1).mean(), e_loss)
        left = min(1, 2 - 2 * step / (E_STEPS * iterations + 1))  # rates fall to 0 over the second half
        for optimizer, rate, loss in [*zip(optimizers, (M_RATE, E_RATE), losses)][not is_m_step :]:
            optimizer.param_groups[0]["lr"] = rate * left
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return found


@torch.no_grad()
def measure(model, inference, x, points=100):
    """(mean log p(x), mean D_KL(q(z|x) ‖ p(z|x)) of the first ``points``), nats, exactly."""
    log_joint = model.log_joint(x)
    log_q, log_p = inference.log_q(model, x[:points]), log_joint[:points].log_softmax(1)
    kl = (torch.special.xlogy(log_q.exp(), log_q.exp()) - log_q.exp() * log_p).sum(1)
    return log_joint.logsumexp(1).mean().item(), kl.mean().item()


def plot(runs):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.WIDTH, 2.4), layout="constrained")
    panels = figure.subplots(1, 2)
    colours = dict(zip(ARMS, ("#262626", "#d55e00", "#0072b2", "#8c8c8c")))
    for arm, seeds in runs.items():
        for seed, run in enumerate(seeds):
            label = arm if seed == 0 else None
            panels[0].plot(run["iteration"], run["test_log_likelihood"], color=colours[arm], label=label)
            if arm != "exact":
                panels[1].plot(run["iteration"], run["kl"], color=colours[arm])
    panels[0].set(title="a  test log-likelihood, nats a point", xlabel="M-steps", ylim=(-3.7, None))
    panels[1].set(title="b  D_KL(q(z|x) ‖ p(z|x)), nats", xlabel="M-steps", yscale="log")
    panels[0].legend(loc="center right")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=400)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
    import machine

    provenance, started = machine.provenance(), time.perf_counter()
    seeds, results = list(range(options.seeds)), Path(__file__).parent / "results"
    runs = {arm: [fit(arm, seed, options.iterations) for seed in seeds] for arm in ARMS}
    write_bytes(results / "gflownet_em.png", style.draw(plot, runs)["png"])
    last = {arm: [run["test_log_likelihood"][-1] for run in found] for arm, found in runs.items()}
    below = {arm: [a - b for a, b in zip(last["exact"], found)] for arm, found in last.items()}
    bars = {
        f"{arm}: mean nats a point below exact EM": (sum(below[arm]) / len(seeds), sign, bound)
        for arm, sign, bound in (("gflownet", "<=", 0.05), ("prior", ">=", 0.1))
    }
    found = {"problem": PROBLEM, "bits": BITS, "seeds": seeds, "runs": runs, "nats_below_exact": below}
    return machine.finish("gflownet_em", provenance, started, bars, results, **found)


if __name__ == "__main__":
    sys.exit(main())
