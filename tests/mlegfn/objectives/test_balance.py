"""Balance conditions: zero at a flow and only there, equal to their sums written out; the hypergrid, exactly."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mlegfn.families.gflownet import OBJECTIVES, GFlowNet, at_balance
from mlegfn.objectives.balance import (
    detailed_balance,
    flow_matching,
    log_variance,
    sub_trajectory_balance,
    trajectory_balance,
)
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import generator
from mlegfn.targets.enumeration import Enumeration
from mlegfn.targets.hypergrid import Hypergrid
from mlegfn.trajectory import score

QUICK = hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
NAN = math.nan


def trajectories(count, steps, seed=0):
    """Random log F [N, T+1], log P_F, log P_B [N, T] and lengths [N]; no flow at all."""
    rng = generator(seed, "balance", count, steps)
    flow = torch.randn(count, steps + 1, generator=rng, dtype=torch.float64)
    pf, pb = torch.randn(2, count, steps, generator=rng, dtype=torch.float64)
    return flow, pf, pb, torch.randint(1, steps + 1, (count,), generator=rng)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


SIZES = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(0, 10**6))


@given(SIZES, st.sampled_from([0.0, 1e-3, 0.5, 0.9, 1.0, 1.5, 1e3, math.inf]))
@QUICK
def test_all_are_their_sums_written_out(size, lam):
    flow, pf, pb, lengths = trajectories(*size)
    count, steps, _ = size
    db = torch.zeros(count, steps, dtype=torch.float64)
    tb, sub = [], []
    for n, length in enumerate(lengths.tolist()):
        residual = {}
        for i, j in itertools.combinations(range(length + 1), 2):
            steps_between = sum((pf[n, k] - pb[n, k]).item() for k in range(i, j))
            residual[i, j] = (flow[n, i].item() + steps_between - flow[n, j].item()) ** 2
        for i in range(length):
            db[n, i] = residual[i, i + 1]
        tb.append(residual[0, length])
        if lam == 0:
            weight = {ij: float(ij[1] - ij[0] == 1) for ij in residual}
        elif lam == math.inf:
            weight = {ij: float(ij == (0, length)) for ij in residual}
        else:
            weight = {(i, j): lam ** (j - i) for i, j in residual}
        sub.append(sum(weight[ij] * residual[ij] for ij in residual) / sum(weight.values()))
    there = torch.arange(steps) < lengths[:, None]
    reward = flow.gather(1, lengths[:, None])[:, 0]
    sums = [(x * there).sum(1) for x in (pf, pb)]
    close(detailed_balance(flow, pf, pb, lengths), db)
    close(
        torch.stack(
            [
                trajectory_balance(*(x[n : n + 1] for x in (*sums, reward)), flow[n, 0])[0]
                for n in range(count)
            ]
        ),
        torch.tensor(tb, dtype=torch.float64),
    )
    close(sub_trajectory_balance(flow, pf, pb, lam, lengths), torch.tensor(sub, dtype=torch.float64))


@given(SIZES)
@QUICK
def test_the_ends_of_sub_trajectory_balance(size):
    """λ = 0 leaves the pairs j = i+1 alone: detailed balance; λ = ∞ the whole path: trajectory balance."""
    flow, pf, pb, _ = trajectories(*size)
    close(sub_trajectory_balance(flow, pf, pb, 0.0), detailed_balance(flow, pf, pb).mean(1))
    flow[:, 0] = 0.3
    whole = trajectory_balance(pf.sum(1), pb.sum(1), flow[:, -1], flow[0, 0])
    close(sub_trajectory_balance(flow, pf, pb, math.inf), whole)
    close(sub_trajectory_balance(flow, pf, pb, 1e200), whole)


@given(SIZES, st.floats(-50, 50))
@QUICK
def test_what_they_do_not_see(size, shift):
    """All flows times a constant; for the variance, all rewards; and at most that: trajectory balance sees both."""
    flow, pf, pb, lengths = trajectories(*size)
    for each in (
        lambda f: detailed_balance(f, pf, pb, lengths),
        lambda f: sub_trajectory_balance(f, pf, pb, 0.9, lengths),
        lambda f: flow_matching(f, f.flip(1) + 0.1),
    ):
        torch.testing.assert_close(each(flow + shift), each(flow), rtol=1e-8, atol=1e-8)
    whole = (pf.sum(1), pb.sum(1), flow[:, -1])
    if len(flow) > 1:
        shifted = log_variance(*whole[:2], whole[2] + shift)
        torch.testing.assert_close(shifted, log_variance(*whole), rtol=1e-8, atol=1e-8)
        log_z = -(whole[0] - whole[1] - whole[2]).mean()
        close(log_variance(*whole), trajectory_balance(*whole, log_z))
        for other in (log_z + 0.1, log_z - 0.1):
            assert trajectory_balance(*whole, other).sum() > log_variance(*whole).sum()


def test_the_variance_is_the_consistency_of_one_object():
    """Same x: R cancels, and the sum over N − 1 is TBC's. Different x: only log_variance knows their rewards."""
    _, pf, pb, _ = trajectories(6, 3)
    log_pf, log_pb = pf.sum(1), pb.sum(1)
    want = consistency((log_pf - log_pb)[None])[0]
    one = log_variance(log_pf, log_pb, torch.full_like(log_pf, 1.7))
    close(one.sum() / 5, want)
    assert (log_variance(log_pf, log_pb, torch.arange(6.0).double()).sum() / 5 - want).abs() > 0.1


def test_gradients_are_derivatives():
    flow, pf, pb, lengths = trajectories(4, 5)
    inputs = [x.requires_grad_() for x in (flow, pf, pb)]
    check = torch.autograd.gradcheck
    assert check(lambda *x: detailed_balance(*x, lengths), inputs)
    for lam in (0.0, 0.9, 1.5, math.inf):
        assert check(lambda *x, lam=lam: sub_trajectory_balance(*x, lam, lengths), inputs)
    assert check(lambda f, a, b: trajectory_balance(a.sum(1), b.sum(1), f[:, -1], f[0, 0]), inputs)
    assert check(lambda f, a, b: log_variance(a.sum(1), b.sum(1), f[:, -1]), inputs)
    nowhere = torch.full((4, 1), -math.inf, dtype=torch.float64)
    assert check(
        lambda f, a, b: flow_matching(torch.cat([f, nowhere], 1), torch.cat([nowhere, a], 1)), inputs
    )


def test_what_comes_after_the_end_does_not_matter():
    flow, pf, pb, lengths = trajectories(5, 6)
    lengths[0] = 6
    late = torch.arange(7) > lengths[:, None]
    dirty = [x.masked_fill(late[:, -x.shape[1] :], NAN).requires_grad_() for x in (flow, pf, pb)]
    for each in (detailed_balance, lambda *x: sub_trajectory_balance(*x[:3], 0.9, x[3])):
        close(each(*dirty, lengths), each(flow, pf, pb, lengths))
        gradients = torch.autograd.grad(each(*dirty, lengths).sum(), dirty)
        assert all(g.isfinite().all() and not g[late[:, -g.shape[1] :]].any() for g in gradients)


A = torch.zeros(3, dtype=torch.float64)
F4, P3 = torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: trajectory_balance(A, A, A[:2], A[0]), "shapes do not match"),
        (lambda: trajectory_balance(A, A, A, A), r"log_z must be \[\], got shape \(3,\)"),
        (lambda: trajectory_balance(P3, P3, P3, A[0]), r"log_pf must be \[N\]"),
        (lambda: trajectory_balance(A, A, A.log(), A[0]), "log_reward holds −∞: a reward or flow is zero"),
        (lambda: trajectory_balance(A.log(), A, A, A[0]), "log_pf holds values that are not finite"),
        (lambda: trajectory_balance(A, A, A, A[0] + NAN), "log_z holds values that are not finite"),
        (lambda: log_variance(A[:1], A[:1], A[:1]), "at least two trajectories"),
        (lambda: log_variance(A, A, A.log()), "a reward or flow is zero"),
        (lambda: detailed_balance(P3, P3, P3), "shapes do not match"),
        (lambda: detailed_balance(F4.log(), P3, P3), "log_flow holds −∞"),
        (lambda: detailed_balance(F4, P3, P3 + NAN), "log_pb holds values that are not finite"),
        (lambda: detailed_balance(F4, P3, P3, torch.tensor([0, 3])), "lengths must be in 1…3"),
        (lambda: detailed_balance(F4, P3, P3, torch.tensor([4, 3])), "lengths must be in 1…3"),
        (lambda: detailed_balance(F4, P3, P3, torch.tensor([1])), "shapes do not match"),
        (lambda: sub_trajectory_balance(F4, P3, P3, -0.1), "lam must be ≥ 0, got -0.1"),
        (lambda: sub_trajectory_balance(F4, P3, P3, NAN), "lam must be ≥ 0"),
        (lambda: flow_matching(A, A), r"log_inflow must be \[N, P\]"),
        (lambda: flow_matching(P3.log(), P3), "log_inflow holds values that are not finite"),
        (lambda: flow_matching(P3[:1], P3), "shapes do not match"),
        (lambda: Hypergrid(0, 3), "dimensions ≥ 1"),
        (lambda: Hypergrid(2, 3, r0=0.0), "R0 > 0"),
        (lambda: Hypergrid(2, 3).log_reward(torch.tensor([[0, 3]])), "outside of 0…2"),
        (lambda: Hypergrid(2, 3).index(torch.zeros(1, 2)), "int64"),
        (lambda: Hypergrid(2, 3).step(torch.tensor([[0, 2]]), torch.tensor([1])), "leaves the grid"),
        (lambda: Hypergrid(2, 3).undo(torch.tensor([[0, 2]]), torch.tensor([0])), "did not lead here"),
        (lambda: Hypergrid(2, 3).step(torch.tensor([[0, 2]]), torch.tensor([2])), "no increment"),
        (lambda: Hypergrid(8, 8).states(), "too large"),
    ],
)
def test_misuse_is_a_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call()


GRIDS = [(1, 5), (2, 4), (3, 3)]


@pytest.fixture(params=GRIDS, ids=str)
def model(request):
    torch.manual_seed(0)
    return GFlowNet(Hypergrid(*request.param), dtype=torch.float64)


def residuals(model):
    """{objective: of each trajectory that there is}, one trajectory at a time, so that nothing averages out."""
    nodes, actions = model.graph.every_walk()
    flows = model.flows()
    return {
        each: torch.stack(
            [model.loss(each, nodes[:, [n]], actions[:, [n]], flows) for n in range(nodes.shape[1])]
        )
        for each in OBJECTIVES
    }


@torch.no_grad()
def test_the_exact_flow_balances_on_every_trajectory(model):
    for loss in residuals(at_balance(model)).values():
        assert loss.max() < 1e-20
    flow, pf, pb = model.parts(*model.graph.every_walk(), model.flows())
    if len(flow) > 1:
        assert log_variance(pf.sum(1), pb.sum(1), flow[:, -1]).max() < 1e-20
    torch.testing.assert_close(flow[:, 0], model.graph.log_z.expand(len(flow)), rtol=1e-12, atol=1e-12)
    assert model.distance() < 1e-12


@torch.no_grad()
def test_a_wrong_flow_does_not(model):
    """One edge 10 % off; the ratio of the policies the wrong way round; another reward."""
    at_balance(model)
    flow, pf, pb = model.parts(*model.graph.every_walk(), model.flows())
    assert detailed_balance(flow, pb, pf).max() > 1e-2
    assert trajectory_balance(pb.sum(1), pf.sum(1), flow[:, -1], flow[0, 0]).max() > 1e-2
    assert trajectory_balance(pf.sum(1), pb.sum(1), -flow[:, -1], flow[0, 0]).max() > 1e-2
    assert sub_trajectory_balance(flow, pb, pf, 0.9).max() > 1e-2
    model.table[0, 0] += 0.1
    for loss in residuals(model).values():
        assert loss.max() > 1e-4
    at_balance(model)
    model.graph.log_reward[-1] += 0.1
    for loss in residuals(model).values():
        assert loss.max() > 1e-4


@pytest.mark.parametrize("grid", [Hypergrid(*size) for size in (*GRIDS, (2, 8), (1, 11), (2, 16), (1, 64))])
def test_rewards_are_their_formula(grid):
    """In fractions: on 11 or 16 cells a side some lie on the bounds, where rounding would break the symmetry."""
    assert torch.equal(grid.log_reward(grid.states()), grid.log_reward(grid.side - 1 - grid.states()))
    for x, got in zip(grid.states().tolist(), grid.log_reward(grid.states()).tolist()):
        u = [abs(Fraction(2 * i, grid.side - 1) - 1) for i in x]
        half, low, high = Fraction(1, 2), Fraction(3, 5), Fraction(4, 5)
        want = 0.1 + 0.5 * all(v > half for v in u) + 2.0 * all(low < v < high for v in u)
        assert got == pytest.approx(math.log(want), abs=1e-14)


def test_the_published_grid_has_its_modes():
    """8 cells a side: 2^d modes of R0 + R1 + R2, in each of 2^d corners of 2^d cells."""
    reward = Enumeration(Hypergrid(3, 8)).log_reward.exp()
    assert (reward > 2.5).sum() == 8 and (reward > 0.5).sum() == 64
    close(reward.sum(), torch.tensor(0.1 * 512 + 0.5 * 64 + 2.0 * 8, dtype=torch.float64))


def test_the_graph_is_what_the_target_says(model):
    grid, graph = model.target, model.graph
    states = grid.states()
    assert torch.equal(grid.index(states), torch.arange(len(states))) and not states[0].any()
    for move, mask, other in (
        (grid.step, grid.allowed(states)[:, :-1], grid.undo),
        (grid.undo, grid.undoable(states), grid.step),
    ):
        row, action = mask.nonzero(as_tuple=True)
        there = move(states[row], action)
        assert torch.equal(other(there, action), states[row])
        assert ((grid.level(there) - grid.level(states[row])).abs() == 1).all()
    nodes, _ = graph.every_walk()
    ways = [math.factorial(sum(x)) / math.prod(map(math.factorial, x)) for x in states.tolist()]
    assert torch.equal(torch.bincount(nodes[-1] - len(states)).double(), torch.tensor(ways).double())


@torch.no_grad()
def test_terminating_probabilities_are_sums_over_all_trajectories(model):
    nodes, actions = model.graph.every_walk()
    _, pf, pb = model.parts(nodes, actions, model.flows())
    want = torch.zeros(model.count, dtype=torch.float64)
    want.index_add_(0, nodes[-1] - model.count, pf.sum(1).exp())
    close(model.log_prob(model.domain()).exp(), want)
    backward = torch.zeros_like(want).index_add_(0, nodes[-1] - model.count, pb.sum(1).exp())
    close(backward, torch.ones_like(want))


@torch.no_grad()
def test_without_a_backward_policy_objects_with_more_ways_win(model):
    """P_B = 1, as if the graph were a tree: then p(x) ∝ R(x) · (number of trajectories to x), not R(x)."""
    graph = model.graph
    flow, edges = graph.flow(torch.zeros_like(graph.parents).double())
    got = graph.terminating(edges - flow[:, None])
    nodes, _ = graph.every_walk()
    ways = torch.bincount(nodes[-1] - model.count).double()
    close(got, (graph.log_reward + ways.log()).log_softmax(0))
    if model.target.dimensions > 1:
        assert (got.exp() - graph.log_prob.exp()).abs().sum() > 0.1


def test_gradients_outside_the_expectation_are_another_thing():
    """The on-policy gradient of TB is 2∇KL with ∇ inside; differentiating the sampling too gives something else,
    and so does forgetting that P_B is not what is differentiated."""
    model = GFlowNet.tiny()
    flow, pf, pb = model.parts(*model.graph.every_walk(), model.flows())
    pf, pb = pf.sum(1), pb.sum(1)
    assert pf.exp().sum().item() == pytest.approx(1, abs=1e-12)

    def gradient(value):
        return torch.autograd.grad(value, model.table, retain_graph=True)[0]

    log_z = model.graph.log_z
    kl = gradient(2 * pf.exp() @ (pf - pb.detach() - flow[:, -1].detach() + log_z))
    right = gradient(pf.exp().detach() @ trajectory_balance(pf, pb.detach(), flow[:, -1], log_z))
    outside = gradient(pf.exp() @ trajectory_balance(pf, pb.detach(), flow[:, -1], log_z))
    learned = gradient(pf.exp().detach() @ trajectory_balance(pf, pb, flow[:, -1], log_z))
    assert (right - kl).norm() < 1e-12 * kl.norm()
    assert (outside - kl).norm() > 0.1 * kl.norm() and (learned - kl).norm() > 0.01 * kl.norm()
    # Z drops out of it: E[∇ log P_F] = 0.
    close(gradient(pf.exp().detach() @ trajectory_balance(pf, pb.detach(), flow[:, -1], log_z + 5)), right)


def test_moves_that_the_graph_has_not_are_impossible():
    """Increments of two, moves after *stop*, stopping by going back: −∞ from both policies; waiting is free."""
    model = GFlowNet.tiny()  # 3×3, T = 5: a state on level l that has not stopped is at t = 5 − l
    x = torch.tensor([[1, 1], [2, 0], [1, 0], [2, 1], [1, 1]])
    t = torch.tensor(
        [1, 5, 3, 5, 3]
    )  # waits; two at once; after its stop; from a level that is not there; stops
    before = torch.tensor([[1, 1], [0, 0], [0, 0], [2, 0], [1, 1]])
    pf, pb = model.log_pf(x, before, t), model.log_pb(x, before, t)
    assert pf[0] == pb[0] == 0 and (pf[1:4] == -math.inf).all() and (pb[1:4] == -math.inf).all()
    assert -math.inf < pf[4] < 0 and pb[4] == 0
    assert model.log_prior(torch.tensor([[0, 0], [0, 1]])).tolist() == [0, -math.inf]


def test_backward_trajectories_wait_in_the_object():
    model = GFlowNet.tiny()
    states = model.sample_pb(torch.tensor([[1, 0]]).expand(50, 2), generator(0, "wait"))
    assert (states[:5] == torch.tensor([1, 0])).all() and not states[5].any()
    with torch.no_grad():
        trajectory = score(model, states)
    assert (
        not trajectory.log_pb.any()
        and (trajectory.log_pf[:3] == 0).all()
        and (trajectory.log_pf[3:] < 0).all()
    )


def test_the_sampling_floor_is_what_samples_show():
    graph = Enumeration(Hypergrid(2, 5))
    p = graph.log_prob.exp()
    for count in (1, 7, 1000):
        draws = torch.multinomial(p, 4000 * count, replacement=True, generator=generator(0, "floor", count))
        rows = torch.arange(4000).repeat_interleave(count)
        table = torch.zeros(4000, len(p), dtype=torch.float64)
        table.index_put_((rows, draws), torch.ones(1, dtype=torch.float64), accumulate=True)
        l1 = (table / count - p).abs().sum(1)
        error = l1.std().item() / math.sqrt(4000)
        assert abs(l1.mean().item() - graph.sampling_floor(count)) < 5 * error + 1e-12
