"""Planar problems as bits: the code, the GFlowNet over partial strings against enumeration, and the report."""

import itertools
import json
import math
import sys

import pytest
import torch
from conftest import REPOSITORY
from safetensors.numpy import save_file
from torch import nn

from mlegfn.config import load
from mlegfn.data import gray, planar
from mlegfn.data.planar_density import log_density
from mlegfn.discrete.filling import EMPTY, BitFilling
from mlegfn.discrete.network import FULL_DIGITS, REACH, BitNetwork, signs
from mlegfn.discrete.objective import (
    backward_loss,
    consistency_loss,
    forward_loss,
    log_policies,
    reward_to_go,
    times,
)
from mlegfn.errors import UserError
from mlegfn.experiments import discrete
from mlegfn.objectives.bounds import importance_weighted
from mlegfn.randomness import generator
from mlegfn.report import claims, verdict
from mlegfn.report import discrete as report
from mlegfn.trajectory import score

SIGMAS = 5.0  # of a fixed seed
LENGTH = 4  # 2 coordinates of a sign and a digit; 4! = 24 orders
SMOKE = load(REPOSITORY / "params.yaml").scale("smoke").discrete


# The code.


def test_gray_neighbours_differ_in_one_bit_and_everything_comes_back():
    s = 2.0**15
    cells = (torch.arange(2**15, dtype=torch.float64) + 0.5) / s
    points = torch.stack([cells, -cells], 1)
    x = gray.encode(points, s)
    assert (x.diff(dim=0) != 0).view(-1, 2, 16).sum(2).eq(1).all()
    assert x[:, 0].eq(0).all() and x[:, 16].eq(1).all()
    assert torch.equal(gray.decode(x, s), points)
    assert len(x.unique(dim=0)) == 2**15
    bits = torch.randint(2, (500, 32), generator=generator(0, "bits"))
    assert torch.equal(gray.encode(gray.decode(bits, s), s), bits)


@pytest.mark.parametrize("problem", planar.SAMPLERS)
def test_points_lie_in_their_cells(problem):
    s, points = gray.INT_SCALE[problem], planar.sample(problem, 2000, generator(0, "cells"))
    centres = gray.decode(gray.encode(points, s), s)
    assert (centres - points).abs().max() <= 0.5 / s * (1 + 1e-9)


def test_gray_clamps_what_is_far_away_and_refuses_nonsense():
    far = gray.encode(torch.tensor([[1e9, -1e9]]), 100.0)
    assert torch.equal(gray.decode(far, 100.0), torch.tensor([[327.675, -327.675]], dtype=torch.float64))
    for points in (torch.zeros(3), torch.zeros(2, 3), torch.tensor([[0.0, math.nan]])):
        with pytest.raises(ValueError):
            gray.encode(points, 1.0)
    for x in (torch.zeros(1, 31, dtype=torch.long), torch.full((1, 32), 2)):
        with pytest.raises(ValueError):
            gray.decode(x, 1.0)


def test_cells_are_those_of_eb_gfn():
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    import gray_scale

    for problem, used in gray.INT_SCALE.items():
        # float32 points there, for some problems, and four decimals here
        assert gray_scale.scale(gray_scale.extremes(problem)) == pytest.approx(used, abs=1e-3), problem


def test_a_cell_has_the_densitys_mass():
    """log p(cell) = log p(centre) − log_cells: what data_entropy rests on, against normal distribution functions."""
    s = gray.INT_SCALE["8gaussians"]
    centres = gray.decode(gray.encode(planar.sample("8gaussians", 200, generator(0, "mass")), s), s).double()
    mass = torch.zeros(len(centres), dtype=torch.float64)
    for centre in planar.gaussians_centres():
        edges = [((centres + sign * 0.5 / s) - centre) / planar.GAUSSIANS_STD for sign in (1, -1)]
        mass += (torch.special.ndtr(edges[0]) - torch.special.ndtr(edges[1])).prod(1) / 8
    difference = mass.log() - (log_density("8gaussians", centres) - gray.log_cells("8gaussians"))
    # (z² − 1)·(1/sσ)²/24 a coordinate, with 1/sσ = 5e-4: 1e-7 at z = 4; and 1e-12 lost in each difference of two
    # distribution functions 2e-4 apart.
    assert difference.abs().max() < 1e-6


def test_the_kernel_is_exponential_in_the_hamming_distance():
    x, y = (torch.randint(2, (30, 32), generator=generator(0, k)) for k in "xy")
    kernel = [torch.exp(-0.1 * (a[:, None] != b[None]).sum(2).double()) for a, b in ((x, x), (y, y), (x, y))]
    within = sum((k.sum() - 30) / (30 * 29) for k in kernel[:2])
    # The library's exponentials are float32: 1e-7 of each.
    assert discrete.hamming_mmd(x, y) == pytest.approx((within - 2 * kernel[2].mean()).item(), abs=1e-6)


# The GFlowNet, against the sum over all orders.


def pair_of(kind, seed=0, length=LENGTH, decoded=True):
    """A pair with random parameters, float64; kind: uniform, learned, ordered."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        forward = BitNetwork(length, 8, 2, outputs=2, decoded=decoded)
        backward = BitNetwork(length, 8, 1, outputs=1, decoded=False) if kind == "learned" else None
        pair = BitFilling(
            length, forward, backward, discrete.significance(length) if kind == "ordered" else None
        )
        for parameter in pair.parameters():
            nn.init.normal_(
                parameter, std=0.3
            )  # wilder policies have weights that a few thousand do not average
    return pair.double()


KINDS = ("uniform", "learned", "ordered")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def domain(length=LENGTH):
    return torch.cartesian_prod(*[torch.arange(2)] * length)


def all_orders(length=LENGTH):
    return torch.tensor(list(itertools.permutations(range(1, length + 1))))


def exact_log_prob(pair, x):
    """[N]: log p(x) by adding up P_F over the lattice of subsets, smallest first."""
    length = x.shape[1]
    log_f = {0: torch.zeros(len(x), dtype=torch.float64)}
    for subset in range(2**length):
        inside = torch.tensor([subset >> i & 1 for i in range(length)], dtype=torch.bool)
        terms = log_f.pop(subset) if subset == 0 else torch.stack(log_f.pop(subset)).logsumexp(0)
        if subset == 2**length - 1:
            return terms
        fills = pair.fills(x, torch.where(inside, x, EMPTY))
        for i in range(length):
            if not inside[i]:
                log_f.setdefault(subset | 1 << i, []).append(terms + fills[:, i])


def every_trajectory(pair, x):
    """(log P_F, log P_B), each [N, orders, T], of all orders of each x."""
    orders = all_orders(x.shape[1])
    xs, steps = x.repeat_interleave(len(orders), 0), orders.repeat(len(x), 1)
    return [
        log_policies(pair, xs, steps, backward).view(len(x), len(orders), -1) for backward in (False, True)
    ]


def exact_elbo(pair, x):
    """[N]: Σ over orders of P_B(τ|x) log w(τ), differentiable in both policies."""
    log_pf, log_pb = (each.sum(2) for each in every_trajectory(pair, x))
    possible = log_pb > -math.inf
    log_w = torch.where(possible, log_pf - torch.where(possible, log_pb, 0.0), 0.0)
    return (log_pb.exp() * log_w).sum(1)


def gradient(value, module):
    parameters = list(module.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found)])


def close(a, b):
    # float64 sums of at most 1e5 terms: 1e-12 of the largest
    return (a - b).abs().max() <= 1e-10 * b.abs().max()


@torch.no_grad()
def test_probabilities_add_up_and_the_bounds_reach_them(kind):
    pair, x = pair_of(kind), domain()
    log_p = exact_log_prob(pair, x)
    assert abs(log_p.exp().sum().item() - 1) < 1e-12
    log_pf, log_pb = (each.sum(2) for each in every_trajectory(pair, x))
    assert torch.allclose(log_pb.logsumexp(1), torch.zeros(len(x), dtype=torch.float64), atol=1e-12)
    if kind != "ordered":
        assert torch.allclose(log_pf.logsumexp(1), log_p, atol=1e-12)
    count = 1 if kind == "ordered" else 4000
    log_w = discrete.log_weights(pair, x, count, generator(0, kind))
    if kind == "ordered":
        assert torch.allclose(log_w[:, 0], log_p, atol=1e-12)
    else:
        error = log_w.exp().std(1) / math.sqrt(count)
        assert ((log_w.logsumexp(1) - math.log(count)).exp() - log_p.exp()).abs().lt(SIGMAS * error).all()
        # The bound rises with K: one trajectory, eight, all
        eight = importance_weighted(log_w.view(-1, 8)).view(len(x), -1).mean(1)
        assert (log_w.mean(1) < eight).all() and (eight < log_p + SIGMAS * error / log_p.exp()).all()


@torch.no_grad()
def test_a_mismatched_backward_policy_is_detected():
    """Orders of one P_B, weighted as if another had made them: E[w] is not p(x)."""
    pair, other, x = pair_of("learned"), pair_of("uniform"), domain()
    rng = generator(0, "mismatch")
    xs = x.repeat_interleave(4000, 0)
    steps = other.orders(xs, rng)
    log_w = (log_policies(pair, xs, steps, False) - log_policies(pair, xs, steps, True)).sum(1).view(16, -1)
    error = log_w.exp().std(1) / math.sqrt(4000)
    wrong = (log_w.exp().mean(1) - exact_log_prob(pair, x).exp()).abs() / error
    assert wrong.max() > 3 * SIGMAS


@torch.no_grad()
def test_samples_have_the_exact_probabilities(kind):
    pair, x, count = pair_of(kind), domain(), 40_000
    states = pair.sample_pf((count, LENGTH), generator(0, "sample", kind))
    assert [(state == EMPTY).sum(1).unique().tolist() for state in states] == [[t] for t in range(5)]
    code = (
        (states[0] << torch.arange(LENGTH)).sum(1).bincount(minlength=16)[(x << torch.arange(LENGTH)).sum(1)]
    )
    p = exact_log_prob(pair, x).exp()
    assert (code / count - p).abs().lt(SIGMAS * (p * (1 - p) / count).sqrt()).all()


@torch.no_grad()
def test_it_is_a_markov_pair(kind):
    pair, x = pair_of(kind), domain()
    for draw in (
        pair.sample_pb(x, generator(0, "pair")),
        pair.sample_pf((16, LENGTH), generator(0, "pair", 1)),
    ):
        scored = score(pair, draw)
        assert scored.log_w.isfinite().all() or kind == "ordered"
        filled = draw != EMPTY
        steps = filled.sum(0)  # an entry filled in k of the 5 states is emptied at step k
        assert torch.allclose(scored.log_pf.T, log_policies(pair, draw[0], steps, False), atol=1e-12)
        assert torch.allclose(scored.log_pb.T, log_policies(pair, draw[0], steps, True), atol=1e-12)
        t = torch.full((16,), 2)
        for x_prev, x_t in ((draw[2], draw[2]), (draw[0], draw[2]), (1 - draw[1].clamp(min=0), draw[2])):
            assert pair.log_pf(x_prev, x_t, t).eq(-math.inf).all()
            assert pair.log_pb(x_prev, x_t, t).eq(-math.inf).all()
    assert pair.log_prior(draw[0]).eq(-math.inf).all() and pair.log_prior(draw[-1]).eq(0).all()


def test_the_forward_gradient_is_the_bounds(kind):
    """The mean over all orders, weighted with P_B, and over all t."""
    pair, x = pair_of(kind), domain()
    orders, t = all_orders(), torch.arange(1, LENGTH + 1)
    rows = torch.cartesian_prod(torch.arange(16), torch.arange(len(orders)), t)
    loss = forward_loss(pair, x[rows[:, 0]], orders[rows[:, 1]], rows[:, 2:])
    weight = every_trajectory(pair, x)[1].sum(2).exp().detach().flatten().repeat_interleave(LENGTH) / LENGTH
    loss = torch.where(weight > 0, loss * weight, 0.0).sum()
    assert close(gradient(loss, pair.policy_f), -gradient(exact_elbo(pair, x).sum(), pair.policy_f))


def test_the_backward_gradient_is_the_bounds_and_a_baseline_of_all_is_not():
    """The mean over all pairs of orders."""
    pair, x = pair_of("learned"), domain()
    log_pf, log_pb = every_trajectory(pair, x)
    pairs = torch.cartesian_prod(torch.arange(24), torch.arange(24))
    weight = log_pb.sum(2).exp().detach()[:, pairs].prod(2).flatten()
    log_pf, log_pb = (each[:, pairs].flatten(0, 1) for each in (log_pf, log_pb))
    exact = gradient(exact_elbo(pair, x).sum(), pair.policy_b)
    found = gradient((weight * backward_loss(log_pf, log_pb)).sum(), pair.policy_b)
    assert close(found, -exact)
    # Minus the mean of *all* M, not of the others: for M = 2 that is half of it.
    later = (log_pf - log_pb).detach().flip(2).cumsum(2).flip(2)
    assert torch.allclose(reward_to_go((log_pf - log_pb).detach()) / 2, later - later.mean(1, keepdim=True))
    assert not close(found / 2, -exact)
    with pytest.raises(ValueError, match="two trajectories"):
        backward_loss(log_pf[:, :1], log_pb[:, :1])


def test_consistency_trains_the_policies_it_is_asked_to():
    pair, x = pair_of("learned"), domain()
    log_pf, log_pb = (each[:, :5] for each in every_trajectory(pair, x))
    log_w = (log_pf - log_pb).sum(2)
    wanted = 0.5 * (log_w[:, :, None] - log_w[:, None]).square().sum((1, 2)) / 20
    assert torch.allclose(consistency_loss(log_pf, log_pb), wanted)
    both = gradient(wanted.sum(), pair)
    for policy, ours in (("forward", pair.policy_f), ("backward", pair.policy_b)):
        log_pf, log_pb = (each[:, :5] for each in every_trajectory(pair, x))
        found = gradient(consistency_loss(log_pf, log_pb, policy).sum(), pair)
        mine = torch.cat([torch.full((p.numel(),), p in set(ours.parameters())) for p in pair.parameters()])
        assert close(found, torch.where(mine, both, 0))


class Table(nn.Module):
    """The best P_F for a uniform P_B, from a table of p(x): entries uniform, bits as p says."""

    def __init__(self, log_p):
        super().__init__()
        self.log_p = nn.Parameter(log_p)

    def forward(self, x):
        fits = ((x[:, None] == EMPTY) | (x[:, None] == domain())).all(2)  # [N, 16]
        with_one = fits[:, :, None] & (domain() == 1)
        odds = [
            torch.where(mask, self.log_p[:, None], -math.inf).logsumexp(1)
            for mask in (with_one, fits[:, :, None] & ~with_one)
        ]
        bit = torch.where(x == EMPTY, odds[0] - odds[1], 0.0)
        return torch.stack([torch.zeros_like(bit), bit], 1)


@torch.no_grad()
def test_the_datas_own_distribution_has_balance_and_the_entropy_as_its_nll():
    log_p = torch.randn(16, generator=generator(0, "table"), dtype=torch.float64).log_softmax(0)
    pair = BitFilling(LENGTH, Table(log_p))
    log_pf, log_pb = (each.sum(2) for each in every_trajectory(pair, domain()))
    assert (log_pf - log_pb - log_p[:, None]).abs().max() < 1e-12
    log_w = discrete.log_weights(pair, domain(), 3, generator(0, "table"))
    assert abs((log_p.exp() * (log_p - importance_weighted(log_w))).sum()) < 1e-12
    fields = discrete.likelihood_fields("moons", log_w, log_p)
    assert fields["nll"] == pytest.approx(gray.data_entropy("moons"), abs=1e-12)
    assert fields["nll_standard_error"] < 1e-12 and fields["log_w_variance"] < 1e-20


def test_the_network_reads_plain_binary_and_is_zero_before_training():
    net = BitNetwork(32, 8, 2, outputs=2)
    x = torch.randint(-1, 2, (50, 32), generator=generator(0, "net"))
    assert net(x).shape == (50, 2, 32) and not net(x).any()
    seen = []
    net.entry.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    full = torch.randint(2, (40, 32), generator=generator(0, "full"))
    full[:, 20:] = EMPTY  # of the second coordinate's 15 digits, 3 are filled
    net(full)
    plain = seen[0][:, 64:94].view(40, 2, 15)
    digits = full.view(40, 2, 16)[:, :, 1:].cumsum(2) % 2
    assert torch.equal(plain[:, 0], signs(digits[:, 0])) and torch.equal(
        plain[:, 1, :3], signs(digits[:, 1, :3])
    )
    assert not plain[:, 1, 3:].any()
    whole = torch.randint(2, (40, 32), generator=generator(1, "full"))
    net(whole)
    torch.testing.assert_close(seen[1][:, 94:96], REACH * gray.decode(whole, 2.0**15).float())
    whole[:, 1:16] = whole[:, 17:] = EMPTY  # signs alone: the middles of the quadrants
    net(whole)
    torch.testing.assert_close(seen[2][:, 94:96], REACH / 2 * -signs(whole[:, [0, 16]]))
    # The decoded output: with b = 3 for all and a = 0, the odds of a Gray digit are ±3 by the digit above.
    nn.init.zeros_(net.exit.weight)
    net.exit.bias.data[64:] = 3.0
    odds = net(full)[:, 1].view(40, 2, 16)
    assert not odds[:, :, 0].any() and odds[:, :, 1].eq(3).all()
    scale = 2.0 ** -(torch.arange(2, 16) - FULL_DIGITS).clamp(min=0)
    assert torch.equal(odds[:, 0, 2:], -3 * scale * signs(digits[:, 0, :-1]))


def test_times_are_unbiased():
    drawn = times(20_000, 32, 5, generator(0, "times"))
    assert (drawn.diff(dim=1) >= 0).all() and drawn.min() == 1 and drawn.max() == 32
    share = drawn.flatten().bincount(minlength=33)[1:] / drawn.numel()
    assert (share - 1 / 32).abs().lt(SIGMAS * math.sqrt(1 / 32 / drawn.numel())).all()


def test_significance_empties_the_last_digits_first():
    assert discrete.significance().tolist() == [*range(32, 0, -2), *range(31, 0, -2)]


# The experiment.


@pytest.mark.parametrize("arm", discrete.ARMS)
def test_fits_are_reproducible_and_count_what_they_evaluate(arm):
    seen = {"forward": 0, "backward": 0}
    plain = discrete.new_pair

    def counting(*arguments):
        pair = plain(*arguments)
        for name, policy in (("forward", pair.policy_f), ("backward", pair.policy_b)):
            if policy is not None:
                policy.register_forward_pre_hook(
                    lambda _, args, name=name: seen.update({name: seen[name] + len(args[0])})
                )
        return pair

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discrete, "new_pair", counting)
        pair, spent = discrete.fit("moons", arm, SMOKE, seed=3)
    assert seen == {name: spent[name] for name in seen}
    assert spent["points"] == SMOKE.steps * SMOKE.batch
    again, _ = discrete.fit("moons", arm, SMOKE, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(pair.parameters(), again.parameters()))


def test_training_learns_an_order_free_and_an_ordered_model():
    """60 steps take off most of what there is to learn, and the importance-weighted bound is above the ELBO."""
    settings = SMOKE.model_copy(
        update={"steps": 60, "batch": 256, "hidden": 32, "lr": 0.02, "times": 8, "test_points": 200}
    )
    settings = settings.model_copy(update={"arms": ["random", "ordered"], "seeds": [0]})
    metrics, samples = discrete.experiment("8gaussians", settings)
    uniform = 32 * math.log(2)
    for run in metrics["runs"]:
        assert run["nll"] - metrics["entropy"] < 0.5 * (uniform - metrics["entropy"])
        assert run["nll"] <= run["elbo_nll"] + 1e-9
    assert set(samples) == {"data", "random", "ordered"}


# The report.


def metrics_files(
    folder, problems=("2spirals", "8gaussians", "circles", "pinwheel"), shift=None, seeds=(0, 1)
):
    """Metrics whose ordered arm lies ``shift`` {problem: nats} above EB-GFN's value, and the settings."""
    values = {"2spirals": 20.05, "8gaussians": 19.982, "circles": 20.546, "pinwheel": 19.554}
    shift = shift or {}
    for problem in problems:
        runs = [
            {
                "model": arm,
                "seed": seed,
                "trajectories": 1,
                "nll": values.get(problem, 20.0) + shift.get(problem, -0.001) + 1e-4 * seed,
                "elbo_nll": 21.0,
                "nll_standard_error": 0.002,
                "log_w_variance": 0.1,
                "mmd": 1e-4,
                "order": [16.5] * 32,
                "evaluations": {"points": 128, "trajectories": 128, "forward": 512, "backward": 0},
            }
            for arm in ("learned", "ordered")
            for seed in seeds
        ]
        file = folder / "discrete" / "metrics" / "discrete" / f"{problem}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        floor = {"mean": 0.0, "standard_deviation": 1e-4, "quantile_95": 2e-4}
        value = {"entropy": gray.data_entropy(problem), "points": 5, "runs": runs, "mmd_floor": floor}
        file.write_text(json.dumps({**value, "mmd_points": 5, "mmd_kernel": "k"}))
        (folder / "discrete" / "discrete").mkdir(exist_ok=True)
        points = planar.sample(problem, 50, generator(0)).numpy()
        save_file(
            dict.fromkeys(("data", "learned", "ordered"), points),
            folder / "discrete" / "discrete" / f"{problem}.safetensors",
        )
    return SMOKE.model_copy(
        update={"problems": list(problems), "seeds": list(seeds), "arms": ["learned", "ordered"]}
    )


def mine():
    return claims.load(REPOSITORY / "claims.yaml", discrete=True)


def decided(folder, **how):
    settings = metrics_files(folder, **how)
    found = verdict.decide(report.Metrics("discrete", settings, folder), mine())
    return {row["id"]: row for row in found["claims"]}


def test_three_of_four_decide(tmp_path):
    row = decided(tmp_path / "a", shift={"circles": 0.1})["discrete-nll-ordered"]
    assert row["verdict"] == "reproduced" and "at 3 of 4" in row["detail"] and "entropy" in row["detail"]
    assert row["estimate"] == pytest.approx(-0.00095) and row["seeds"] == 2
    row = decided(tmp_path / "b", shift={"circles": 0.1, "pinwheel": 0.002})["discrete-nll-ordered"]
    assert row["verdict"] == "not reproduced" and row["where"] == "pinwheel"
    for problems, verdict_ in (
        (("2spirals", "8gaussians", "circles"), "reproduced"),
        (("moons", "circles"), "not tested at this scale"),
    ):
        row = decided(tmp_path / str(len(problems)), problems=problems, seeds=(0,))["discrete-nll-ordered"]
        assert row["verdict"] == verdict_
    assert decided(tmp_path / "c")["discrete-nll-random"]["verdict"] == "not tested at this scale"


def test_the_report_has_table_figure_and_verdicts(tmp_path):
    settings = metrics_files(tmp_path)
    files = report.make("discrete", settings, mine(), tmp_path)
    table = files["tables"]["discrete.md"]
    assert table.count("| learned P_B") == 4 and "19.982" in table and "slope" in table
    assert files["tables"]["discrete.csv"].count("\n") == 9
    assert files["figures"]["discrete.png"][:4] == b"\x89PNG"
    assert json.loads(files["report"]["discrete.json"])["scale"] == "discrete"
    file = tmp_path / "discrete" / "metrics" / "discrete" / "circles.json"
    value = json.loads(file.read_text())
    for broken in ({**value, "runs": value["runs"][1:]}, {k: v for k, v in value.items() if k != "entropy"}):
        file.write_text(json.dumps(broken))
        with pytest.raises(UserError, match="dvc repro discrete@discrete-circles"):
            report.make("discrete", settings, mine(), tmp_path)
    file.unlink()
    with pytest.raises(UserError, match="not found; the stage discrete@discrete-circles"):
        report.make("discrete", settings, mine(), tmp_path)
