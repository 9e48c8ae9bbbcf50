"""Targets: the protocol, over all of them; then each one's exact values against sums written out."""

import itertools
import math

import pytest
import torch

from mlegfn.randomness import generator
from mlegfn.targets.enumeration import Enumeration
from mlegfn.targets.hypergrid import Hypergrid
from mlegfn.targets.phylogeny import Phylogeny, evolve, jukes_cantor
from mlegfn.targets.sequences import Sequences
from mlegfn.targets.sets import Sets, log_polynomials

# Small enough to walk every trajectory; with the number of states and of objects, counted by hand or formula.
SMALL = {
    "hypergrid": (Hypergrid(2, 8), 64, 64),
    "hypergrid, 3 × 3 × 3": (Hypergrid(3, 3, r0=0.01), 27, 27),
    "sets": (Sets(6, 3), 1 + 6 + 15 + 20, 20),
    "sets, one": (Sets(4, 4), 16, 1),
    "sequences": (Sequences(3, 4), 1 + 3 + 9 + 27 + 81, 121),
    "sequences, one letter": (Sequences(1, 3), 4, 4),
    "phylogeny": (Phylogeny.simulated(5, 12), 266, 3 * 5 * 7),  # forests: OEIS A001515; trees: (2n−3)!!
    "phylogeny, two species": (Phylogeny.simulated(2, 3), 2, 1),
}


def close(a, b):
    """Sums of up to 10⁴ numbers in float64, relative to each other."""
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.fixture(params=SMALL.values(), ids=SMALL.keys())
def case(request):
    return request.param


def walk(target, count, seed=0):
    """Random states of all levels, reached by uniform legal actions alone: no listing."""
    rng, states = generator(seed, "targets", count), [target.initial(count)]
    for _ in range(target.depth):
        allowed = target.allowed(states[-1])[:, :-1]
        going = allowed.any(1)
        action = torch.multinomial(allowed[going].double(), 1, generator=rng)[:, 0]
        states.append(states[-1].clone())
        states[-1][going] = target.step(states[-2][going], action)
    return torch.cat(states)


def check_moves(target, states):
    """Every move there is from ``states``, and back."""
    for move, mask, other, reverse, sign in (
        (target.step, target.allowed(states)[:, :-1], target.undo, target.undoable, 1),
        (target.undo, target.undoable(states), target.step, target.allowed, -1),
    ):
        assert mask.shape == (len(states), target.actions - 1) and mask.dtype == torch.bool
        row, action = mask.nonzero(as_tuple=True)
        there = move(states[row], action)
        assert there.dtype == torch.int64 and there.shape[1:] == target.shape
        assert torch.equal(target.level(there), target.level(states[row]) + sign)
        assert reverse(there).gather(1, action[:, None]).all()
        assert torch.equal(other(there, action), states[row])
        illegal = (~mask).nonzero()
        for n, act in illegal[:: max(1, len(illegal) // 20)].tolist():
            with pytest.raises(ValueError, match="an action"):
                move(states[[n]], torch.tensor([act]))
    with pytest.raises(ValueError, match=r"stop|increment"):
        target.step(states[:1], torch.tensor([target.actions - 1]))


def test_moves_are_inverse_and_levels_rise_by_one(case):
    target, *_ = case
    states = target.states()
    check_moves(target, states)
    assert (target.undoable(states).any(1) == (target.level(states) > 0)).all()
    assert target.allowed(states).any(1).all() and target.level(states).max() == target.depth


@pytest.mark.parametrize(
    "target",
    [Hypergrid(4, 16), Sets(), Sequences(), Phylogeny.simulated(), Phylogeny.simulated(12, 10)],
    ids=lambda t: type(t).__name__,
)
def test_moves_where_nothing_is_listed(target):
    states = walk(target, 8)
    check_moves(target, states)
    last = states[-8:]
    assert target.allowed(last)[:, -1].all() and target.log_reward(states).isfinite().all()
    assert target.features(states).dtype == torch.float64 and target.log_reward(last).dtype == torch.float64


def test_states_that_are_reached_are_those_that_are_listed(case):
    target, count, objects = case
    start = target.initial(1)
    reached, front = {tuple(start[0].tolist())}, start
    for level in range(target.depth + 1):
        assert (target.level(front) == level).all()
        row, action = target.allowed(front)[:, :-1].nonzero(as_tuple=True)
        if len(row):
            front = target.step(front[row], action).unique(dim=0)
            reached |= set(map(tuple, front.tolist()))
    states = target.states()
    assert len(states) == len(reached) == count and set(map(tuple, states.tolist())) == reached
    assert torch.equal(states[:1], start) and torch.equal(target.index(states), torch.arange(count))
    assert target.allowed(states)[:, -1].sum() == objects
    # Networks can tell all states apart.
    assert len(target.features(states).unique(dim=0)) == count


def test_log_z_and_a_uniform_policy(case):
    target, *_ = case
    graph = Enumeration(target)
    close(target.log_z, graph.log_z)
    close(graph.terminating(graph.uniform[: len(graph.states)].log()).logsumexp(0).exp(), ONE)
    # and with any P_B, here uniform, *the* flow gives R/Z and starts with Z.
    log_pb = (graph.parents >= 0).double()
    log_pb = (log_pb / log_pb.sum(1, keepdim=True).clamp(min=1)).log()
    flow, edges = graph.flow(log_pb)
    close(flow[0], target.log_z)
    close(graph.terminating(edges - flow[:, None]).exp(), graph.log_prob.exp())


ONE = torch.ones((), dtype=torch.float64)


def ways(target, x):
    """How many trajectories lead to each object, by combinatorics."""
    if isinstance(target, Hypergrid):
        return [math.factorial(sum(r)) // math.prod(map(math.factorial, r)) for r in x.tolist()]
    if isinstance(target, Sets):
        return [math.factorial(target.size)] * len(x)
    if isinstance(target, Sequences):
        return [1] * len(x)
    return [
        math.factorial(target.depth) // math.prod(c.bit_count() - 1 for c in row if c) for row in x.tolist()
    ]


def test_trajectories_are_counted(case):
    target, *_ = case
    graph = Enumeration(target)
    nodes, _ = graph.every_walk()
    ends = torch.bincount(nodes[-1] - len(graph.states), minlength=len(graph.states))
    x = graph.allowed[:, -1]
    assert ends[x].tolist() == ways(target, graph.states[x]) and not ends[~x].any()
    if isinstance(target, Phylogeny):
        n = target.species
        assert ends.sum() == math.factorial(n) * math.factorial(n - 1) // 2 ** (n - 1)


# Sets


def test_elementary_symmetric_polynomials_are_their_sums():
    values = torch.randn(4, 7, generator=generator(0, "esp"), dtype=torch.float64)
    table = log_polynomials(values, 7)
    for d, row, k in itertools.product(range(8), range(4), range(8)):
        terms = [math.exp(sum(c)) for c in itertools.combinations(values[row, :d].tolist(), k)]
        assert table[d, row, k].exp().item() == pytest.approx(math.fsum(terms), rel=1e-13, abs=0)


@pytest.mark.parametrize(("elements", "size"), [(1, 1), (5, 1), (6, 3), (8, 7), (10, 4), (4, 4)])
def test_sets_have_exact_marginals(elements, size):
    target = Sets(elements, size, seed=3)
    graph = Enumeration(target)
    close(target.log_z, graph.log_z)
    close(target.marginals(), graph.log_prob.exp() @ graph.states.double())


def test_sets_of_the_task():
    target = Sets()
    assert math.comb(32, 16) == 601_080_390
    close(target.marginals().sum(), torch.tensor(16.0, dtype=torch.float64))
    for listing in (target.states, lambda: target.index(target.initial(1))):
        with pytest.raises(ValueError, match="too large a number to list"):
            listing()
    # All sets alike: the count. And from far out of float64's range, where e_N itself would overflow.
    zero = torch.zeros(32, dtype=torch.float64)
    assert Sets(values=zero).log_z.exp().item() == pytest.approx(math.comb(32, 16), rel=1e-12)
    assert Sets(values=zero + 1e3).log_z.item() == pytest.approx(16e3 + math.log(math.comb(32, 16)), abs=1e-9)


def test_sets_are_sampled_exactly():
    target, count = Sets(6, 3, seed=1), 40_000
    p = Enumeration(target).log_prob.exp()
    x = target.sample(count, generator(0, "sets"))
    counts = torch.bincount(target.index(x), minlength=len(p)).double()
    assert not counts[p == 0].any()
    want = count * p[p > 0]
    chi2 = ((counts[p > 0] - want).square() / want).sum().item()
    assert chi2 < 19 + 5 * math.sqrt(2 * 19)  # 5 standard deviations of χ² with 20 − 1 degrees of freedom
    # At full size: 32 marginals, each within 5 standard errors.
    target = Sets()
    mean, error = target.sample(count, generator(1, "sets")).double().mean(0), target.marginals()
    assert ((mean - error).abs() < 5 * (error * (1 - error) / count).sqrt()).all()


def test_sets_sampling_floor_is_the_sum_over_all():
    target = Sets(8, 4)
    graph = Enumeration(target)
    for count in (10, 1000):
        mean, error = target.sampling_floor(count)
        assert error < 0.01 * mean and abs(mean - graph.sampling_floor(count)) < 5 * error


# Sequences


def test_sequences_of_the_task():
    """Listed with the empty one, (8⁷ − 1)/7; the product form is the sum over all 299,593."""
    target = Sequences()
    states = target.states()
    assert len(states) == (8**7 - 1) // 7 == 299_593 and target.log_reward(states[:1]) == 0
    assert torch.equal(target.index(states), torch.arange(len(states)))
    close(target.log_z, target.log_reward(states).logsumexp(0))
    assert (target.log_reward(states[1:]).logsumexp(0) - target.log_z).abs() > 1e-9  # without it: another Z


def test_sequences_rewards_are_their_formula():
    target = Sequences(3, 3, seed=5)
    g, f = target.places.tolist(), target.letters.tolist()
    words = [w for k in range(4) for w in itertools.product((1, 2, 3), repeat=k)]
    want = [sum(g[i] * f[letter - 1] for i, letter in enumerate(w)) for w in words]
    assert target.states().tolist() == [[*w, 0, 0, 0][:3] for w in words]
    close(target.log_reward(target.states()), torch.tensor(want, dtype=torch.float64))


# Phylogeny: trees as nested tuples of species


def species(tree):
    return [tree] if isinstance(tree, int) else [s for child in tree for s in species(child)]


def merges(tree):
    return [] if isinstance(tree, int) else [*merges(tree[0]), *merges(tree[1]), tree]


def build(target, tree, order=None):
    """The state by ``step``, children before parents, in the order given."""
    state = target.initial(1)
    for node in order or merges(tree):
        i, j = sorted(min(species(child)) for child in node)
        action = ((target.pairs[0] == i) & (target.pairs[1] == j)).nonzero()[:, 0]
        state = target.step(state, action)
    return state


def brute(tree, sequences, transition, root=None):
    """Likelihood: at each site, the sum over the nucleotides of all inner nodes of the product over edges.

    ``root``: another transition for the edge to the root's second child.
    """
    inner = merges(tree)
    total = 1.0
    for site in range(sequences.shape[1]):
        here = 0.0
        for assigned in itertools.product(range(4), repeat=len(inner)):
            at = dict(zip(map(str, inner), assigned))
            at |= {str(s): sequences[s, site].item() for s in species(tree)}
            along = {str(tree[1]): root or transition}
            edges = [
                along.get(str(child), transition)[at[str(n)]][at[str(child)]] for n in inner for child in n
            ]
            here += 0.25 * math.prod(edges)
        total *= here
    return total


TREES = [(0, 1), ((0, 1), 2), (0, (2, 1)), ((0, 3), (1, 2)), (((3, 1), 0), 2), (0, (1, (2, 3)))]


@pytest.mark.parametrize("branch", [0.02, 0.3, 2.0])
@pytest.mark.parametrize("tree", TREES, ids=str)
def test_felsenstein_is_the_sum_over_inner_nodes(tree, branch):
    count = len(species(tree))
    target = Phylogeny(torch.randint(4, (count, 4), generator=generator(0, "dna")), branch)
    want = brute(tree, target.sequences, jukes_cantor(branch).tolist())
    got = target.log_likelihood(build(target, tree)).item()
    assert got == pytest.approx(math.log(want), abs=1e-12)
    # With the root's two edges as one of length b, as if the tree were unrooted: another likelihood.
    unrooted = brute(tree, target.sequences, jukes_cantor(branch).tolist(), root=torch.eye(4).tolist())
    assert abs(got - math.log(unrooted)) > 1e-3


def test_the_root_matters():
    """JC69 is reversible: what is the same is the likelihood with the root moved along *its* edges only."""
    target = Phylogeny(torch.tensor([[0], [0], [1], [2]]), 0.3)
    balanced, other = ((0, 1), (2, 3)), (0, (1, (2, 3)))  # one unrooted tree
    a, b = (target.log_likelihood(build(target, tree)).item() for tree in (balanced, other))
    assert abs(a - b) > 0.01


def test_trees_of_a_forest_are_independent():
    target = Phylogeny(torch.tensor([[0, 1], [0, 3], [1, 1], [2, 0], [3, 3]]), 0.3)
    forest = build(target, None, [(0, 2), (1, 4)])
    pairs = [Phylogeny(target.sequences[[i, j]], 0.3) for i, j in ((0, 2), (1, 4))]
    want = sum(pair.log_likelihood(build(pair, (0, 1))) for pair in pairs) - 2 * math.log(4)
    close(target.log_likelihood(forest), want)


def test_jukes_cantor_is_the_exponential_of_its_rates():
    import numpy as np
    from scipy.linalg import expm

    rates = (np.ones((4, 4)) - 4 * np.eye(4)) / 3  # one substitution expected per unit
    for branch in (1e-3, 0.1, 1.0, 7.0):
        np.testing.assert_allclose(jukes_cantor(branch).numpy(), expm(branch * rates), rtol=1e-12)
    off = jukes_cantor(1e-20)[0, 1].item()
    assert off == pytest.approx(1e-20 / 3, rel=1e-12)  # where 1 − e^{−4b/3} would be 0
    assert torch.equal(jukes_cantor(math.inf), torch.full((4, 4), 0.25, dtype=torch.float64))


def test_equal_forests_are_equal_tensors():
    """Whatever the order of children or of merges; and the likelihood does not know the species' names."""
    target = Phylogeny.simulated(6, 10)
    tree, turned = (((5, 1), (0, 3)), (4, 2)), ((2, 4), ((3, 0), (1, 5)))
    state = build(target, tree)
    assert torch.equal(state, build(target, turned))
    pairs = [(4, 2), (0, 3), (5, 1)]
    for order in itertools.permutations(pairs):
        assert torch.equal(state, build(target, tree, [*order, tree[0], tree]))
    assert not torch.equal(state, build(target, (((5, 2), (0, 3)), (4, 1))))
    new = [3, 5, 0, 1, 2, 4]

    def renamed(node):
        return new[node] if isinstance(node, int) else tuple(map(renamed, node))

    inverse = torch.tensor(new).argsort()
    other = Phylogeny(target.sequences[inverse], target.branch)
    close(other.log_likelihood(build(other, renamed(tree))), target.log_likelihood(state))
    close(other.log_z, target.log_z)


def test_limits_of_the_branch_length():
    trees = Phylogeny.simulated(5, 10)
    x = trees.states()
    x = x[trees.level(x) == 4]
    # All nucleotides independent: 4^−(sites·species) on every topology, and Z is that.
    far = Phylogeny(trees.sequences, math.inf)
    want = torch.tensor(-50 * math.log(4), dtype=torch.float64)
    close(far.log_likelihood(x), want.expand(len(x)))
    close(far.log_z, want)
    # Identical sequences that cannot change: 4^−sites; each of 2n−2 edges costs b a site, to first order.
    near = Phylogeny(torch.tensor([[0, 1, 2, 3, 1]] * 5), 1e-9)
    want = torch.tensor(-5 * math.log(4) - 5 * 8 * 1e-9, dtype=torch.float64)
    close(near.log_likelihood(x), want.expand(len(x)))
    # 40 changes at b = 1e-12: e^−1000 and less, which float64 could not hold without rescaling.
    change = Phylogeny(torch.tensor([[0] * 40, [1] * 40, [0] * 40]), 1e-12)
    assert -1400 < change.log_likelihood(build(change, ((0, 1), 2))).item() < -1000


def test_phylogeny_of_the_task():
    """10,395 rooted topologies, 56,700 trajectories, by dynamic programming over 27,007 forests."""
    target = Phylogeny.simulated()
    graph = Enumeration(target)
    x = graph.allowed[:, -1]
    assert len(graph.states) == 27_007 and x.sum() == 10_395 == target.topologies
    assert target.sequences.shape == (7, 25)
    ones = torch.zeros(len(graph.states), target.actions, dtype=torch.float64)
    count = graph.terminating(ones).exp()[x]
    assert count.sum().item() == pytest.approx(56_700, rel=1e-9)
    close(count, torch.tensor(ways(target, graph.states[x])).double())
    # A forest has one parent a tree of two species or more.
    roots = (graph.parents >= 0).sum(1)
    assert roots.max() == 3 and (roots[x] == 1).all()
    close(target.log_z, graph.log_z)
    assert (target.features(graph.states).sum(1) > 0).sum() == 27_006
    assert Phylogeny.simulated(8, 1).topologies == 135_135


def test_all_data_there_could_be_have_probability_one():
    """Σ over all 4^n columns of p(column | tree) = 1, and sequences evolve as often as p says."""
    columns = torch.cartesian_prod(*[torch.arange(4)] * 4).T
    single = [Phylogeny(columns[:, [n]], 0.3) for n in range(256)]
    for tree in (((0, 3), (1, 2)), (((3, 1), 0), 2)):
        state = build(single[0], tree)
        p = torch.cat([target.log_likelihood(state) for target in single]).exp()
        close(p.sum(), ONE)
        sites = 40_000
        seen = evolve(state[0], 4, sites, 0.3, generator(0, "evolve"))
        counts = torch.bincount((seen * torch.tensor([[64], [16], [4], [1]])).sum(0), minlength=256).double()
        chi2 = ((counts - sites * p).square() / (sites * p)).sum().item()
        assert abs(chi2 - 255) < 5 * math.sqrt(2 * 255 + (1 / (sites * p)).sum().item())


DNA = torch.zeros(3, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Sets(4, 5), "1 ≤ size ≤ elements"),
        (lambda: Sets(4, 2, values=torch.zeros(3)), "4 finite numbers"),
        (lambda: Sets(4, 2, values=torch.tensor([0, 0, 0, math.nan])), "4 finite numbers"),
        (lambda: Sets(4, 2).log_reward(torch.zeros(1, 4)), "int64"),
        (lambda: Sets(4, 2).log_reward(torch.tensor([[1, 1, 1, 0]])), "at most 2 ones"),
        (lambda: Sets(4, 2).log_reward(torch.tensor([[2, 0, 0, 0]])), "0 and 1"),
        (lambda: Sequences(0, 3), "alphabet ≥ 1"),
        (lambda: Sequences(3, 3, places=torch.zeros(2)), "places must be 3 finite"),
        (lambda: Sequences(3, 3, letters=torch.zeros(3) + math.inf), "letters must be 3 finite"),
        (lambda: Sequences(3, 3).log_reward(torch.tensor([[0, 1, 0]])), "has ended"),
        (lambda: Sequences(3, 3).index(torch.tensor([[4, 1, 0]])), "letters are 1…3"),
        (lambda: Sequences(8, 7).states(), "too large a number to list"),
        (lambda: Sequences(8, 30).index(torch.zeros(1, 30).long()), "too large a number to list"),
        (lambda: Phylogeny(DNA[0]), "species, sites"),
        (lambda: Phylogeny(DNA + 4), "nucleotides are 0…3"),
        (lambda: Phylogeny(DNA, 0.0), "length > 0"),
        (lambda: Phylogeny(DNA, math.nan), "length > 0"),
        (lambda: Phylogeny(DNA).log_reward(torch.tensor([[8, 0]])), "bit masks of 3 species"),
        (lambda: Phylogeny(DNA).log_reward(torch.zeros(1, 3).long()), "int64"),
        (lambda: Phylogeny.simulated(9, 1).states(), "too large a number to list"),
        (lambda: Phylogeny.simulated(9, 1).index(torch.zeros(1, 8).long()), "too large a number to list"),
        (lambda: Phylogeny.simulated(9, 1).log_z, "too large a number to list"),
        (lambda: Hypergrid(8, 8).states(), "too large a number to list"),
    ],
)
def test_misuse_is_a_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_targets_are_functions_of_their_seed():
    for make in (Sets, Sequences):
        assert make(seed=4).log_z == make(seed=4).log_z != make(seed=5).log_z
    assert torch.equal(Phylogeny.simulated(seed=4).sequences, Phylogeny.simulated(seed=4).sequences)
    assert not torch.equal(Phylogeny.simulated(seed=4).sequences, Phylogeny.simulated(seed=5).sequences)
