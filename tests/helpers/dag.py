"""A graph small enough to enumerate all trajectories, and averages over batches of them, all or a fixed set."""

import itertools

import torch

from mlegfn.randomness import generator


class Dag:
    """Two binary choices and a stop: 6 trajectories to 4 objects, two of which have two parents; float64.

    s_0 → a or b; a → x_1, x_2, x_3; b → x_2, x_3, x_4. P_B of x_2 and x_3 is not uniform.
    """

    def __init__(self):
        rng = generator(0, "dag")
        self.parameters = [
            torch.randn(n, generator=rng, dtype=torch.float64, requires_grad=True) for n in (2, 3, 3)
        ]
        self.log_reward = torch.randn(4, generator=rng, dtype=torch.float64)[torch.tensor([0, 1, 2, 1, 2, 3])]
        share = torch.tensor([1.0, 0.3, 0.6, 0.7, 0.4, 1.0], dtype=torch.float64)
        self.log_pb = share.log()

    @property
    def log_pf(self):
        """[6]: log P_F(τ) of every trajectory."""
        first, *second = (p.log_softmax(0) for p in self.parameters)
        return torch.cat([first[:1] + second[0], first[1:] + second[1]])

    @property
    def log_target(self):
        """[6]: log R(x) P_B(τ|x), normalised: log p̄_B."""
        return (self.log_reward + self.log_pb).log_softmax(0)

    def gradient(self, value, retain_graph=False):
        grads = torch.autograd.grad(value, self.parameters, retain_graph=retain_graph, materialize_grads=True)
        return torch.cat([g.flatten() for g in grads])

    def surrogate_gradient(self, objective, rows, **options):
        log_pf = self.log_pf[rows]
        value = objective(log_pf, self.log_pb[rows], self.log_reward[rows], **options)
        return self.gradient(value)


def exact(dag, name, alpha=None):
    """The enumerated gradient of the divergence itself."""
    log_pf, log_target = dag.log_pf, dag.log_target
    ratio = log_pf - log_target
    sign = 1 if alpha is None or alpha > 0 else -1
    values = {
        "reverse_kl": lambda: (log_pf.exp() * ratio).sum(),
        "forward_kl": lambda: -(log_target.exp() * ratio).sum(),
        "renyi": lambda: (log_pf.exp() * ((alpha - 1) * ratio).exp()).sum().log() * sign / (alpha - 1),
        "tsallis": lambda: ((log_pf.exp() * ((alpha - 1) * ratio).exp()).sum() - 1) * sign / (alpha - 1),
    }
    return dag.gradient(values[name]())


def expected(dag, objective, batch, **options):
    """E of the surrogate's gradient over all batches of this many trajectories, and the trace of its covariance."""
    mean, square = 0.0, 0.0
    log_p = dag.log_pf.detach()
    for rows in itertools.product(range(6), repeat=batch):
        rows = torch.tensor(rows)
        weight = log_p[rows].sum().exp()
        gradient = dag.surrogate_gradient(objective, rows, **options)
        mean, square = mean + weight * gradient, square + weight * gradient.square().sum()
    return mean, (square - mean.square().sum()).item()


def draw(dag, batch, count):
    """int64 [count, batch]: a fixed set of batches of trajectories ~ P_F."""
    probability = dag.log_pf.detach().exp().expand(count, 6)
    return torch.multinomial(probability, batch, replacement=True, generator=generator(0, "batches", batch))


def every(dag):
    """Rows in which each trajectory occurs as often as P_F says, so that a batch's mean *is* the expectation."""
    probability = torch.tensor([1, 2, 3, 2, 1, 1], dtype=torch.float64)
    with torch.no_grad():
        joint = (probability / probability.sum()).view(2, 3)
        dag.parameters[0].copy_(joint.sum(1).log())
        dag.parameters[1].copy_(joint[0].log())
        dag.parameters[2].copy_(joint[1].log())
    return torch.arange(6).repeat_interleave(probability.long())
