"""The arms of fine-tuning: equal evaluations, equal draws, and a control whose added gradient is as long."""

import pytest
import torch
from helpers.exact import TinyNetwork, gradients, linear_process, settings

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.objectives.consistency import consistency
from mlegfn.randomness import generator
from mlegfn.training import finetuning
from mlegfn.training.chains import sample_chain
from mlegfn.training.finetuning import ARMS, arm_loss, bound_weight, extra_states, finetune_gradient
from mlegfn.training.state import new_state

T, BATCH = 6, 5


class Settings:
    """What an arm reads: chains of two images, their term, a batch of independent ones."""

    def __init__(self, weight=0.1, **changes):
        self.batch = BATCH
        self.consistency = settings(**changes)
        self.consistency.images, self.consistency.weight = 2, weight
        self.consistency.weight_warmup = 0


def images():
    return torch.randint(0, 17, (40, 1, 2, 2), generator=generator(0, "x0")).double() / 8 - 1


def model_of(network):
    process = linear_process(T)
    return DenoisingModel(network, process, fixed_log_variance(process, "small"), 17)


def objective(arm, network, of_arm, seed=0):
    model, parameters = model_of(network), list(network.parameters())
    return finetune_gradient(model, images(), of_arm, arm, ("test",), seed, False, parameters=parameters)


@pytest.mark.parametrize(
    "case",
    [
        {"chunk": 10**6},
        {"chunk": 7},
        {"gradient": "subsampled", "gradient_steps": 2},
        {"gradient": "subsampled", "gradient_steps": 99},
        {"chain": "subtrajectory", "chain_steps": 3, "chunk": 7},
    ],
)
def test_all_arms_spend_equal_evaluations(case):
    """Forward evaluations are equal, and no arm has fewer with a gradient than one with the consistency term."""
    spent = {}
    for arm in ARMS:
        made = objective(arm, TinyNetwork(), Settings(**case))
        made.accumulate(0)
        spent[arm] = made.evaluations
    assert len({one.forward for one in spent.values()}) == 1, spent
    assert min(one.backward for one in spent.values()) == spent["simple_tbc"].backward


def test_all_arms_see_the_same_independent_images(monkeypatch):
    seen = {}
    for arm in ARMS:

        def recording(model, anchor, chain, *_, arm=arm):
            seen[arm] = (anchor, chain)
            return {"loss": torch.zeros(())}

        monkeypatch.setattr(finetuning, "mle_gfn_backward", recording)
        objective(arm, TinyNetwork(), Settings()).accumulate(3)
    first = seen["simple_tbc"]
    for anchor, chain in seen.values():
        torch.testing.assert_close(anchor.x0[:BATCH], first[0].x0)
        torch.testing.assert_close(anchor.x_t[:BATCH], first[0].x_t)
        if chain is not None:
            torch.testing.assert_close(chain.states, first[1].states)
    assert len(first[0].t) == BATCH and [chain is None for _, chain in seen.values()] == [
        term is None for _, term in ARMS.values()
    ]


def test_the_added_gradient_of_reweighted_is_as_long_as_that_of_consistency():
    """Against plain autograd, on the very chains: μ² Σ‖∇(−log w)‖² = λ² Σ‖∇Var‖²."""
    network, of_arm = TinyNetwork(), Settings(weight=0.3)
    model = model_of(network)
    chains = [
        (sample_chain(model, images()[k : k + 2], of_arm.consistency, generator(0, k)), None)
        for k in range(4)
    ]
    ratio = bound_weight(list(network.parameters()), of_arm.consistency, chains)
    assert all(parameter.grad is None for parameter in network.parameters())
    squares = {}
    for term in ("variance", "bound"):
        total = 0.0
        for chain, _ in chains:
            network.zero_grad()
            _, x_prev, x_t, t = chain.rows(slice(None))
            log_w = chain.sum_over_steps(model.log_pf(x_prev, x_t, t)) + chain.fixed_part()
            (-log_w.mean() if term == "bound" else consistency(log_w.view(-1, 2)).mean()).backward()
            total += gradients(network).square().sum().item()
        squares[term] = total
    assert ratio == pytest.approx((squares["variance"] / squares["bound"]) ** 0.5, rel=1e-9)
    assert ratio != pytest.approx(1, rel=0.01)  # equal weights would not do
    made = objective("reweighted", network, of_arm)
    assert made.weight != of_arm.consistency.weight and objective("simple", network, of_arm).weight == 0
    assert objective("vlb_tbc", network, of_arm).weight == 0.3


def test_reweighted_is_set_from_the_weights_that_it_begins_with():
    """μ stays while the network moves: it belongs to the loss, which must not change under it."""
    network = TinyNetwork()
    made = objective("reweighted", network, Settings())
    before = made.weight
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    made.accumulate(0)
    assert made.weight == before != objective("reweighted", network, Settings()).weight


def test_a_bound_without_a_gradient_has_no_weight():
    network, of_arm = TinyNetwork(), Settings()
    model = model_of(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.requires_grad_(False)
    chains = [(sample_chain(model, images()[:2], of_arm.consistency, generator(0, 0)), None)]
    with pytest.raises((ValueError, RuntimeError)):
        bound_weight(list(network.parameters()), of_arm.consistency, chains)


def test_no_such_arm():
    with pytest.raises(ValueError, match=r"no arm 'tbc'; there are simple, simple_tbc"):
        arm_loss("tbc")
    with pytest.raises(ValueError, match="no arm"):
        extra_states("tbc", Settings().consistency, T)


def test_adam_begins_again_with_fresh_moments():
    """The first step of a fresh Adam has the length of the rate in every coordinate, whatever came before."""

    class Optimizer:
        lr, warmup, clip, ema_decay = 0.01, 0, 1e9, 0.9

    network = TinyNetwork()
    state = new_state(network, Optimizer)
    parameters = list(network.parameters())

    def step(scale):
        before = [parameter.detach().clone() for parameter in parameters]
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, scale)
        state.optimizer.step()
        state.step += 1
        return torch.cat(
            [(new.detach() - old).flatten() for new, old in zip(parameters, before, strict=True)]
        )

    for _ in range(200):
        step(1e-3)
    carried_over = max((step(10.0) for _ in range(10)), key=lambda moved: moved.abs().max())
    state.begin_again()
    assert state.step == 0
    fresh = step(10.0)
    torch.testing.assert_close(fresh, torch.full_like(fresh, -0.01), rtol=1e-4, atol=0)
    assert carried_over.abs().max() > 2 * fresh.abs().max(), "the moments of another loss set the length"
