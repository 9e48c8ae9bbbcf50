"""Losses of log w alone: the same log w as elsewhere, the same draws for every loss, products of gradients unbiased."""

import torch
from helpers.exact import TinyNetwork, linear_process

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.objectives.second_order import signed_loss
from mlegfn.randomness import generator
from mlegfn.training.chains import sample_chain
from mlegfn.training.joint import _product, alignment, joint_gradient, joint_log_weights
from mlegfn.training.mle_gfn import Evaluations, chain_backward
from mlegfn.trajectory import score


def model_of(network, steps=6):
    process = linear_process(steps)
    return DenoisingModel(network, process, fixed_log_variance(process, "small"))


def points(count=3):
    return torch.randn(count, 2, generator=generator(0, "points"), dtype=torch.float64)


def gradient(network):
    return torch.cat([p.grad.flatten() for p in network.parameters()])


def test_log_w_is_that_of_the_interface_for_trajectories():
    model = model_of(TinyNetwork(2))
    log_w = joint_log_weights(model, points(), 4, generator(1, "draw"))
    states = model.sample_pb(points().repeat_interleave(4, 0), generator(1, "draw"))
    torch.testing.assert_close(log_w, score(model, states).log_w.view(3, 4))


def test_a_gradient_is_the_sum_of_those_of_bound_and_consistency():
    """Those of ``chain_backward``, which goes through the chain in pieces."""
    from helpers.exact import settings

    network, weight = TinyNetwork(2), -0.3
    model, data = model_of(network), points(12)
    accumulate = joint_gradient(model, data, lambda log_w: signed_loss(log_w, weight), 4, 3, 5, ("here",))
    entry = accumulate(2)
    found = gradient(network)
    network.zero_grad()

    from mlegfn.randomness import batch_indices

    rows = batch_indices(5, "joint/here", 2, 3, len(data))
    wanted = settings(trajectories=4)
    chain = sample_chain(model, data[rows], wanted, generator(5, "joint", "here", 2))
    bound, _ = chain_backward(chain, wanted, 1.0, Evaluations(), None, "bound")
    variance, _ = chain_backward(chain, wanted, weight, Evaluations(), None)
    torch.testing.assert_close(gradient(network), found)
    torch.testing.assert_close(entry["loss"], bound + weight * variance)
    torch.testing.assert_close(entry["bound"], bound)


def test_every_loss_sees_the_same_points_and_noise():
    seen = []

    def loss(log_w):
        seen.append(log_w.detach())
        return -log_w.mean(1)

    model = model_of(TinyNetwork(2))
    first, again, other = (
        joint_gradient(model, points(12), loss, 2, 3, seed, ("here",)) for seed in (0, 0, 1)
    )
    for accumulate in (first, again, other):
        accumulate(7)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_a_product_of_means_has_no_bias_where_the_square_of_the_mean_has():
    """4000 trials of G = 5 estimates around known means; ‖mean‖² is too large by tr Σ/G."""
    mean_g, mean_h = torch.tensor([1.0, 0.0, 2.0]).double(), torch.tensor([0.5, 1.0, -1.0]).double()
    noise = 3 * torch.randn(4000, 2, 5, 3, generator=generator(0, "noise"), dtype=torch.float64)
    found = [(_product(mean_g + g, mean_h + h), _product(mean_g + g, mean_g + g)) for g, h in noise]
    inner, square = (torch.tensor([pair[k]["value"] for pair in found]) for k in (0, 1))
    assert abs(inner.mean() - mean_g @ mean_h) < 4 * inner.std() / 4000**0.5
    assert abs(square.mean() - mean_g @ mean_g) < 4 * square.std() / 4000**0.5
    naive = (mean_g + noise[:, 0].mean(1)).pow(2).sum(1)
    assert naive.mean() - mean_g @ mean_g > 20 * naive.std() / 4000**0.5
    errors = torch.tensor([pair[0]["standard_error"] for pair in found])
    assert 0.8 < errors.pow(2).mean().sqrt() / inner.std() < 1.5


def test_alignment_is_that_of_the_gradients_of_bound_and_variance():
    """With many batches it nears the products of the gradients of one large batch."""
    network = TinyNetwork(2)
    model, data = model_of(network), points(4)
    found = alignment(model, list(network.parameters()), data, 4, 4, 400, 0, ("here",))
    large = []
    for weight in (0.0, 1.0):
        network.zero_grad()
        joint_gradient(model, data, lambda log_w, w=weight: signed_loss(log_w, w), 4000, 4, 1, ("big",))(0)
        large.append(gradient(network))
    bound, variance = large[0], large[1] - large[0]
    for name, value in {
        "bound_squared": bound @ bound,
        "bound_variance": bound @ variance,
        "variance_squared": variance @ variance,
    }.items():
        assert abs(found[name]["value"] - value) < 5 * found[name]["standard_error"], name
    again = alignment(model, list(network.parameters()), data, 4, 4, 3, 0, ("here",))
    assert again == alignment(model, list(network.parameters()), data, 4, 4, 3, 0, ("here",))
