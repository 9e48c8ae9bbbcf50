"""The graph network on forests against one written node by node, and what it must and must not see."""

import pytest
import torch
from torch.nn import functional as F

from mlegfn.gflownet.gin import TreePolicy
from mlegfn.randomness import generator, seed_layers
from mlegfn.targets.phylogeny import Phylogeny

SIZES = (3, 4, 5, 6, 7)


def policy_of(species, layers=2):
    """In float64, so that what is left is rounding."""
    target = Phylogeny.simulated(species, 4)
    with torch.random.fork_rng():
        seed_layers(0, "tree policy", species)
        return target, TreePolicy(target, hidden=8, layers=layers).double()


def histories(species, count=20):
    """Forests as what was merged: lists of pairs of clades, bit masks, drawn uniformly up to every length."""
    rng = generator(0, "histories", species)
    for n in range(count):
        trees, merges = [1 << i for i in range(species)], []
        for _ in range(n % species):
            one, two = torch.randperm(len(trees), generator=rng)[:2].tolist()
            merges.append((trees[one], trees[two]))
            trees = [t for t in trees if t not in merges[-1]] + [trees[one] | trees[two]]
        yield trees, merges


def name(clade):
    return (clade & -clade).bit_length() - 1


def action(target, *clades):
    pair = sorted(map(name, clades))
    return target.pairs.T.tolist().index(pair)


def state(target, merges):
    states = target.initial(1)
    for merge in merges:
        states = target.step(states, torch.tensor([action(target, *merge)]))
    return states


def read(policy, states):
    logits, log_flow = policy(policy.inputs(states).double())
    return logits, log_flow


def written_out(policy, trees, merges):
    """({pair of trees: logit}, log flow) by sums over sets of neighbours, of nodes that there are."""
    edges = [(child, one | two) for one, two in merges for child in (one, two)]
    nodes = [1 << i for i in range(policy.species)] + [one | two for one, two in merges]
    near = {v: [v] + [a if v == b else b for a, b in edges if v in (a, b)] for v in nodes}
    h = {v: policy.kinds[name(v) if v & (v - 1) == 0 else -1] for v in nodes}
    for layer in policy.layers:
        below = sum(h.values())
        z = {v: sum(h[u] for u in near[v]) for v in nodes}
        z = {v: layer[0](x) if len(layer) == 2 else x + policy.shift for v, x in z.items()}
        h = {v: F.leaky_relu(layer[-1](F.leaky_relu(x))) for v, x in z.items()}
    graph = policy.of_graph(torch.cat([below, sum(h[tree] for tree in trees)]))
    logits = {
        (one, two): policy.pair(
            F.leaky_relu(policy.of_root(h[one] + h[two]) + graph[: policy.hidden])
        ).squeeze()
        for one in trees
        for two in trees
        if one < two
    }
    return logits, policy.flow(F.leaky_relu(graph[policy.hidden :])).squeeze()


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("species", SIZES)
def test_it_is_the_network_written_out_node_by_node(species, layers):
    """Where unused slots are not even there; float64."""
    target, policy = policy_of(species, layers)
    for trees, merges in histories(species):
        logits, log_flow = read(policy, state(target, merges))
        assert logits.shape == (1, target.actions) and log_flow.shape == (1,) and logits[0, -1] == 0
        wanted, flow = written_out(policy, trees, merges)
        torch.testing.assert_close(log_flow[0], flow)
        for pair, logit in wanted.items():
            torch.testing.assert_close(logits[0, action(target, *pair)], logit)


@pytest.mark.parametrize("species", SIZES)
def test_relabelled_species_permute_the_logits(species):
    """With their rows of ``kinds``; the trees get other names, and slots, by that. Without the rows it is another."""
    target, policy = policy_of(species)
    _, other = policy_of(species)
    order = torch.randperm(species, generator=generator(0, "relabel", species))
    order = order.roll(1) if order.equal(torch.arange(species)) else order
    to = order.tolist()
    with torch.no_grad():
        other.kinds[order] = policy.kinds[:-1]

    def moved(clade):
        return sum(1 << to[i] for i in range(species) if clade >> i & 1)

    differs = False
    for trees, merges in histories(species):
        logits, log_flow = read(policy, state(target, merges))
        states = state(target, [(moved(one), moved(two)) for one, two in merges])
        again, flow = read(other, states)
        torch.testing.assert_close(flow, log_flow)
        for one in trees:
            for two in trees:
                if one != two:
                    place = action(target, moved(one), moved(two))
                    torch.testing.assert_close(again[0, place], logits[0, action(target, one, two)])
        differs |= not read(policy, states)[1].allclose(log_flow)
    assert differs


def test_the_order_of_merges_does_not_matter_and_the_trees_do():
    """((0 1) (2 3)) either way; ((0 2) (1 3)) has the same clades of the same sizes, and is another forest."""
    target, policy = policy_of(5)
    merged = [state(target, [a, b, (3, 12)]) for a, b in (((1, 2), (4, 8)), ((8, 4), (2, 1)))]
    other = state(target, [(1, 4), (2, 8), (5, 10)])
    for one, same, different in zip(*(read(policy, x) for x in (*merged, other))):
        torch.testing.assert_close(one, same, rtol=0, atol=0)
        assert not one.allclose(different)


def test_one_forest_is_read_like_many():
    """Rounding of float32 sums in another order."""
    target, policy = policy_of(5)
    policy.float()
    states = target.states()
    inputs = policy.inputs(states)
    assert inputs.shape == (266, 15, 9) and inputs.dtype == torch.float32
    logits, log_flow = policy(inputs)
    for row in range(0, 266, 25):
        one, flow = policy(policy.inputs(states[row : row + 1]))
        torch.testing.assert_close(one[0], logits[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(flow[0], log_flow[row], rtol=1e-4, atol=1e-5)


def test_unused_slots_have_no_influence():
    """At s_0 no clade is there, so that their kind gets no gradient and any value of it gives the same."""
    target, policy = policy_of(6)
    first, later = target.initial(1), state(target, [(1, 2)])
    inputs = policy.inputs(first)[0]
    assert not inputs[:, 6:].any() and not inputs[6:11].any()
    before = [torch.cat([x.flatten() for x in read(policy, s)]) for s in (first, later)]
    (gradient,) = torch.autograd.grad(before[0].sum(), policy.kinds)
    assert not gradient[-1].any() and gradient[:-1].any(1).all()
    with torch.no_grad():
        policy.kinds[-1] += 10
    after = [torch.cat([x.flatten() for x in read(policy, s)]) for s in (first, later)]
    torch.testing.assert_close(before[0], after[0], rtol=0, atol=0)
    assert not before[1].allclose(after[1])


@pytest.mark.parametrize("species", [2, *SIZES])
def test_gradients_reach_all_parameters(species):
    target, policy = policy_of(species)
    states = torch.cat([state(target, merges) for _, merges in histories(species)])
    logits, log_flow = read(policy, states)
    allowed = target.allowed(states)
    log_pf = logits.masked_fill(~allowed, -torch.inf).log_softmax(1)
    spread = log_pf[allowed].square().sum() + log_flow.square().sum()
    spread.backward()
    for key, parameter in policy.named_parameters():
        reached = parameter.grad.abs().sum() > 0
        # Of two species the first merge is the only one, so that its logit does not matter.
        assert reached or (species == 2 and key.split(".")[0] in ("pair", "of_root")), key


def test_a_network_needs_a_layer():
    with pytest.raises(ValueError, match="at least one layer, got 0"):
        policy_of(4, layers=0)
