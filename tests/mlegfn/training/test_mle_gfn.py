"""Algorithm 1's gradient: chunked, two-pass and step-subsampled, against plain autograd in float64."""

import itertools
import math

import pytest
import torch
from helpers.exact import Counting, TinyNetwork, gradients, linear_process, settings

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import normal_log_prob
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.randomness import generator
from mlegfn.training import mle_gfn
from mlegfn.training.chains import chain_model, sample_chain
from mlegfn.training.mle_gfn import AnchorBatch, Evaluations, anchor_loss, mle_gfn_backward

T = 6
WEIGHT = 0.3


def setup(chosen, learned=False, levels=None, dropout=0.0):
    """(network, model, anchor, chain) on three images of four pixels."""
    process = linear_process(T)
    network = TinyNetwork(outputs=2 if learned else 1, dropout=dropout)

    def variance_of(chain_process):
        return None if learned else fixed_log_variance(chain_process, "small")

    model = DenoisingModel(network, process, variance_of(process), levels)
    x0 = torch.randint(0, 17, (3, 1, 2, 2), generator=generator(0, "x0")).double() / 8 - 1
    t = torch.tensor([1, 4, 6])
    eps = torch.randn(x0.shape, generator=generator(0, "eps"), dtype=torch.float64)
    anchor = AnchorBatch(x0, process.noise(x0, t, eps), t)
    on_chain = chain_model(model, chosen, variance_of)
    for draw in itertools.count():  # a sub-trajectory from x_0 on would not see an offset that is forgotten
        chain = sample_chain(on_chain, x0, chosen, generator(0, "chain", draw))
        if chain.first > 0 or chosen.chain != "subtrajectory":
            break
    return network, model, anchor, chain


def plain_loss(model, anchor, chain, chosen, weight, kind, term="consistency"):
    """Algorithm 1's loss in one graph, trajectory by trajectory and step by step, from its definition."""
    T_full, dims = model.timesteps, 4
    log_w = []
    steps, width = chain.states.shape[0] - 1, chain.states.shape[1]
    for column in range(width):
        total = chain.model.log_prior(chain.states[-1, column : column + 1]) if chain.whole else 0.0
        for step in range(1, steps + 1):
            x_prev, x_t = (
                chain.states[step - 1, column : column + 1],
                chain.states[step, column : column + 1],
            )
            t = torch.tensor([chain.first + step])
            total = total + chain.model.log_pf(x_prev, x_t, t) - chain.model.log_pb(x_prev, x_t, t)
        log_w.append(total)
    log_w = torch.cat(log_w).view(-1, chosen.trajectories)
    value = -log_w.mean()
    if chosen.per_dimension:
        log_w = log_w / dims
    residual = log_w - log_w.mean(1, keepdim=True)
    if chosen.loss == "square":
        spread = (residual**2).sum(1) / (chosen.trajectories - 1)
    else:
        d, size = chosen.huber_delta, residual.abs()
        spread = torch.where(size <= d, size**2, d * (2 * size - d)).sum(1) / (chosen.trajectories - 1)
    value = spread.mean() if term == "consistency" else value
    likelihood = []
    for i in range(len(anchor.t)):
        x0, x_t, t = anchor.x0[i : i + 1], anchor.x_t[i : i + 1], anchor.t[i : i + 1]
        prediction = model.predict(x_t, t)
        if kind == "vlb":
            likelihood.append(model.bound_terms(x0, x_t, t, prediction) * T_full / dims)
        else:
            alpha_bar = model.process.alpha_bar[t].view(-1, 1, 1, 1)
            eps = (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
            likelihood.append(((eps - prediction.eps) ** 2).mean((1, 2, 3)))
    return torch.cat(likelihood).mean() + weight * value, value


CASES = [
    {},
    {"trajectories": 3},
    {"loss": "huber"},
    {"loss": "huber", "trajectories": 3, "per_dimension": True, "huber_delta": 0.2},
    {"per_dimension": True},
    {"chain": "respaced", "chain_steps": 3},
    {"chain": "subtrajectory", "chain_steps": 3},
    {"chain": "subtrajectory", "chain_steps": 4, "trajectories": 3, "loss": "huber"},
]


def name(case):
    return "-".join(map(str, case.values())) or "full-2-square"


@pytest.mark.parametrize("levels", [None, 17], ids=["continuous", "levels"])
@pytest.mark.parametrize("case", CASES, ids=name)
def test_two_pass_gradient_is_one_pass_is_autograd(case, levels):
    """Relative 1e-9 in float64: the issue's number. Chunks of 7 rows cut across steps, images and trajectories."""
    for kind in ("simple", "vlb"):
        found, logs = [], []
        for chunk in (7, 10**6):
            chosen = settings(**case, chunk=chunk)
            network, model, anchor, chain = setup(chosen, levels=levels)
            evaluations = Evaluations()
            logs.append(mle_gfn_backward(model, anchor, chain, chosen, WEIGHT, kind, evaluations, None))
            found.append(gradients(network))
            one_pass = chunk > 7
            assert evaluations.forward == chain.count * (1 if one_pass else 2) + 3
            assert evaluations.backward == chain.count + 3
        network.zero_grad()
        loss, spread = plain_loss(model, anchor, chain, chosen, WEIGHT, kind)
        loss.backward()
        want = gradients(network)
        for got, log in zip(found, logs, strict=True):
            assert (got - want).norm() <= 1e-9 * want.norm()
            assert log["loss"] == pytest.approx(loss.item(), rel=1e-9)
            assert log["consistency"] == pytest.approx(spread.item(), rel=1e-9)
        # The consistency term is a real part of that gradient.
        network.zero_grad()
        plain_loss(model, anchor, chain, chosen, 0.0, kind)[0].backward()
        assert (gradients(network) - want).norm() > 1e-3 * want.norm()


@pytest.mark.parametrize("case", CASES[-3:], ids=name)
def test_learned_variances_get_the_consistency_gradient_too(case):
    found = []
    for chunk in (7, 10**6):
        chosen = settings(**case, chunk=chunk)
        network, model, anchor, chain = setup(chosen, learned=True)
        mle_gfn_backward(model, anchor, chain, chosen, WEIGHT, "vlb", Evaluations(), None)
        found.append(gradients(network))
    network.zero_grad()
    plain_loss(model, anchor, chain, chosen, WEIGHT, "vlb")[0].backward()
    want = gradients(network)
    for got in found:
        assert (got - want).norm() <= 1e-9 * want.norm()


def test_two_passes_agree_under_dropout():
    """Pass 2 must see pass 1's masks: then chunked gradient and logged consistency are those of one function."""
    chosen = settings(chunk=7)
    network, model, anchor, chain = setup(chosen, dropout=0.5)
    empty = AnchorBatch(anchor.x0[:0], anchor.x_t[:0], anchor.t[:0])
    torch.manual_seed(3)
    logs = mle_gfn_backward(model, empty, chain, chosen, WEIGHT, "simple", Evaluations(), None)
    got = gradients(network)
    network.zero_grad()
    torch.manual_seed(3)
    log_pf = []
    for part in torch.arange(chain.count).split(7):
        _, x_prev, x_t, t = chain.rows(part)
        log_pf.append(model.log_pf(x_prev, x_t, t))
    log_w = (chain.sum_over_steps(torch.cat(log_pf)) + chain.fixed_part()).view(-1, 2)
    (WEIGHT * log_w.var(1).mean()).backward()
    want = gradients(network)
    assert logs["consistency"] == pytest.approx(log_w.var(1).mean().item(), rel=1e-9)
    assert (got - want).norm() <= 1e-9 * want.norm()


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_step_subsampled_gradients_average_to_the_exact_one(kept):
    """Unbiased: each coordinate's mean over 400 draws within 5 of its standard
    errors (the coordinates move together, so they are nearer to one comparison than to their number)."""
    exact = settings(chain="full", chunk=10**6)
    network, model, anchor, chain = setup(exact)
    empty = AnchorBatch(anchor.x0[:0], anchor.x_t[:0], anchor.t[:0])
    mle_gfn_backward(model, empty, chain, exact, WEIGHT, "simple", Evaluations(), None)
    full = gradients(network)
    chosen = settings(gradient="subsampled", gradient_steps=kept, chunk=10**6)
    draws = []
    for draw in range(400):
        network.zero_grad()
        evaluations = Evaluations()
        mle_gfn_backward(
            model, empty, chain, chosen, WEIGHT, "simple", evaluations, generator(0, "steps", draw)
        )
        draws.append(gradients(network))
        assert evaluations.backward == kept * 6 and evaluations.forward == kept * 6 + chain.count
    draws = torch.stack(draws)
    z = (draws.mean(0) - full) / (draws.std(0) / 400**0.5)
    assert z.abs().max() < 5
    assert draws.std(0).norm() > 1e-3 * full.norm()
    # A wrong weight would be seen: without S/K the mean is this far off.
    biased = (kept / T * draws.mean(0) - full) / (draws.std(0) / 400**0.5)
    assert biased.abs().max() > 5


def test_step_subsampled_gradients_average_exactly_over_all_choices(monkeypatch):
    """No sampling error: the mean over all C(6, 2) pairs of steps is the exact gradient, to rounding."""
    exact = settings(chunk=10**6)
    network, model, anchor, chain = setup(exact)
    empty = AnchorBatch(anchor.x0[:0], anchor.x_t[:0], anchor.t[:0])
    mle_gfn_backward(model, empty, chain, exact, WEIGHT, "simple", Evaluations(), None)
    full = gradients(network)
    network.zero_grad()
    pairs = list(itertools.combinations(range(T), 2))
    for pair in pairs:
        rows = torch.cat([step * 6 + torch.arange(6) for step in pair])
        monkeypatch.setattr(mle_gfn, "_picked_rows", lambda chain, settings, generator, rows=rows: rows)
        chosen = settings(gradient="subsampled")
        mle_gfn_backward(model, empty, chain, chosen, WEIGHT, "simple", Evaluations(), None)
    assert (gradients(network) / len(pairs) - full).norm() <= 1e-9 * full.norm()


def test_all_steps_subsampled_is_exact():
    found = []
    for case in ({"gradient": "exact"}, {"gradient": "subsampled", "gradient_steps": 99}):
        chosen = settings(**case, chunk=7)
        network, model, anchor, chain = setup(chosen)
        mle_gfn_backward(model, anchor, chain, chosen, WEIGHT, "simple", Evaluations(), generator(0, "all"))
        found.append(gradients(network))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weight", [0.0, WEIGHT])
@pytest.mark.parametrize(
    "case",
    [
        *CASES,
        {"chunk": 10**6},
        {"gradient": "subsampled"},
        {"gradient": "subsampled", "chain": "subtrajectory", "chain_steps": 4},
    ],
    ids=name,
)
def test_reported_evaluations_are_what_the_network_saw(case, weight):
    chosen = settings(**case)
    _, model, anchor, chain = setup(chosen)
    counting = Counting(model.network)
    model.network = chain.model.network = counting
    evaluations = Evaluations()
    logs = mle_gfn_backward(
        model, anchor, chain, chosen, weight, "simple", evaluations, generator(0, "steps")
    )
    assert (evaluations.forward, evaluations.backward) == (counting.forward, counting.backward)
    assert counting.largest <= max(chosen.chunk, 3)  # memory is O(chunk)
    assert (logs["log_w"] is None) == (weight == 0)


@pytest.mark.parametrize("given", ["a chain", "no chain"])
def test_without_weight_it_is_plain_likelihood_of_the_independent_states(given):
    chosen = settings()
    network, model, anchor, chain = setup(chosen)
    evaluations = Evaluations()
    chain = chain if given == "a chain" else None
    logs = mle_gfn_backward(model, anchor, chain, chosen, 0.0, "simple", evaluations, None)
    got = gradients(network)
    network.zero_grad()
    prediction = model.predict(anchor.x_t, anchor.t)
    loss = anchor_loss(model, anchor.x0, anchor.x_t, anchor.t, prediction, "simple").mean()
    loss.backward()
    assert (got - gradients(network)).norm() <= 1e-9 * got.norm()
    assert logs["loss"] == pytest.approx(loss.item()) and logs["consistency"] == 0
    assert evaluations.forward == evaluations.backward == 3


@pytest.mark.parametrize("case", [{}, {"chain": "respaced", "chain_steps": 3}], ids=name)
@pytest.mark.parametrize("chunk", [7, 10**6])
def test_the_bound_on_the_chain_is_its_mean_log_w(case, chunk):
    chosen = settings(**case, chunk=chunk)
    network, model, anchor, chain = setup(chosen, levels=17)
    evaluations = Evaluations()
    logs = mle_gfn_backward(model, anchor, chain, chosen, WEIGHT, "simple", evaluations, None, "bound")
    got = gradients(network)
    network.zero_grad()
    loss, bound = plain_loss(model, anchor, chain, chosen, WEIGHT, "simple", "bound")
    loss.backward()
    assert (got - gradients(network)).norm() <= 1e-9 * got.norm()
    assert logs["loss"] == pytest.approx(loss.item(), rel=1e-9)
    assert logs["bound"] == pytest.approx(bound.item(), rel=1e-9) == -logs["log_w"].item()
    assert evaluations.forward == evaluations.backward == chain.count + 3  # one pass, however long the chain


def test_a_term_that_there_is_not():
    chosen = settings()
    _, model, anchor, chain = setup(chosen)
    with pytest.raises(ValueError, match="no term 'variance'"):
        mle_gfn_backward(model, anchor, chain, chosen, WEIGHT, "simple", Evaluations(), None, "variance")


def test_vlb_anchor_over_all_times_is_the_bound():
    """The mean over t = 1…T of T · L_{t−1}/d is Σ_t L_{t−1} / d."""
    _, model, anchor, _ = setup(settings(), levels=17)
    x0 = anchor.x0[:1].repeat(T, 1, 1, 1)
    t = torch.arange(1, T + 1)
    x_t = model.process.noise(x0, t, torch.ones_like(x0))
    prediction = model.predict(x_t, t)
    got = anchor_loss(model, x0, x_t, t, prediction, "vlb").mean()
    torch.testing.assert_close(got, model.bound_terms(x0, x_t, t, prediction).sum() / 4)


def test_hybrid_loss_trains_the_variances_by_the_bound_and_the_mean_by_l_simple():
    _, model, anchor, _ = setup(settings(), learned=True)
    out = model.evaluate(anchor.x_t, anchor.t).detach().requires_grad_()
    prediction = model.interpret(out, anchor.x_t, anchor.t)
    anchor_loss(model, anchor.x0, anchor.x_t, anchor.t, prediction, "simple").sum().backward()
    eps = model.process.noise_of(anchor.x0, anchor.x_t, anchor.t)
    torch.testing.assert_close(out.grad[:, :1], 2 * (out[:, :1].detach() - eps) / 4)
    # On the variances: 0.001 · T/d/ln 2 of the KL's own derivative, by finite differences.
    step = torch.zeros_like(out)
    step[:, 1] = 1e-6

    def bound(values):
        return model.bound_terms(
            anchor.x0, anchor.x_t, anchor.t, model.interpret(values, anchor.x_t, anchor.t)
        ).sum()

    slope = (bound(out + step) - bound(out - step)).item() / 2e-6
    want = 0.001 * T / 4 / math.log(2) * slope
    assert out.grad[:, 1].sum().item() == pytest.approx(want, rel=1e-6)


def test_log_pf_is_the_gaussian_of_the_reverse_mean():
    _, model, anchor, _ = setup(settings())
    mean = model.process.reverse_mean(anchor.x_t, anchor.t, model.predict(anchor.x_t, anchor.t).eps)
    want = normal_log_prob(anchor.x0, mean, model.log_variance[anchor.t].view(-1, 1, 1, 1))
    torch.testing.assert_close(model.log_pf(anchor.x0, anchor.x_t, anchor.t), want)


def test_one_trajectory_is_refused():
    chosen = settings(trajectories=1)
    _, model, anchor, chain = setup(chosen)
    with pytest.raises(ValueError, match="at least 2 trajectories"):
        mle_gfn_backward(model, anchor, chain, chosen, WEIGHT, "simple", Evaluations(), None)
