"""MLE-GFN's loss in one call: its gradient is that of ``training.mle_gfn`` on the same draws, float64."""

import pytest
import torch
from helpers.exact import Counting, TinyNetwork, exact_gaussian, gradients, linear_process
from helpers.exact import settings as training_settings

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.mle_gfn import LossSettings, loss
from mlegfn.randomness import generator
from mlegfn.training.chains import sample_chain
from mlegfn.training.mle_gfn import AnchorBatch, Evaluations, mle_gfn_backward

T, N = 6, 5


def new_model(learned=False, levels=None, dropout=0.0):
    process = linear_process(T)
    network = TinyNetwork(outputs=2 if learned else 1, dropout=dropout)
    table = None if learned else fixed_log_variance(process, "small")
    return network, DenoisingModel(network, process, table, levels)


def images(count=N):
    return torch.randint(0, 17, (count, 1, 2, 2), generator=generator(0, "x0")).double() / 8 - 1


def by_training(model, x0, weight, chosen):
    """Logs of ``mle_gfn_backward`` on the draws that ``loss`` documents: times, noise, then the chain."""
    draw = generator(0, "loss")
    t = torch.randint(1, T + 1, (len(x0),), generator=draw)
    eps = torch.randn(x0.shape, generator=draw, dtype=x0.dtype)
    anchor = AnchorBatch(x0, model.process.noise(x0, t, eps), t)
    names = ("trajectories", "chain", "chain_steps", "loss", "huber_delta", "per_dimension")
    own = training_settings(chunk=7, **{name: getattr(chosen, name) for name in names})
    chain = sample_chain(model, x0[: chosen.images], own, draw) if weight else None
    return mle_gfn_backward(model, anchor, chain, own, weight, chosen.likelihood, Evaluations(), None)


CASES = [
    {},
    {"trajectories": 3, "images": 2},
    {"likelihood": "vlb"},
    {"loss": "huber", "huber_delta": 0.2, "per_dimension": True},
    {"per_dimension": True, "likelihood": "vlb", "images": 1},
    {"chain": "subtrajectory", "chain_steps": 3},
    {"chain": "subtrajectory", "chain_steps": 4, "trajectories": 3, "loss": "huber", "huber_delta": 0.5},
]


@pytest.mark.parametrize("weight", [0.3, -0.1, 0.0])
@pytest.mark.parametrize("learned, levels", [(False, None), (False, 17), (True, 17)])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())) or "default")
def test_its_gradient_is_that_of_training(case, learned, levels, weight):
    """In one piece, and in pieces of 4 states that cut across steps, images and trajectories."""
    chosen = LossSettings(**case)
    network, model = new_model(learned, levels)
    logs = by_training(model, images(), weight, chosen)
    want = gradients(network)
    for chunk in (1024, 4):
        network.zero_grad()
        value = loss(
            model,
            images(),
            weight=weight,
            generator=generator(0, "loss"),
            settings=LossSettings(**case, chunk=chunk),
        )
        value.total.backward()
        assert (gradients(network) - want).norm() <= 1e-10 * want.norm()
        assert value.total.item() == pytest.approx(logs["loss"].item(), rel=1e-10)
        assert value.likelihood.item() == pytest.approx(logs["likelihood"].item(), rel=1e-10)
        if weight == 0:
            assert value.consistency is None and value.log_w is None
            continue
        assert value.consistency.item() == pytest.approx(logs["consistency"].item(), rel=1e-10)
        assert (value.log_w is None) == (chosen.chain == "subtrajectory")
        if value.log_w is not None:
            assert value.log_w.item() == pytest.approx(logs["log_w"].item(), rel=1e-10)
    if weight:  # λ is a real part of that gradient
        network.zero_grad()
        loss(model, images(), weight=0.0, generator=generator(0, "loss"), settings=chosen).total.backward()
        assert (gradients(network) - want).norm() > 1e-4 * want.norm()


def test_the_exact_model_has_no_inconsistency():
    """Scalar Gaussian data, T = 50: log w is log p(x) for every trajectory, up to x_T not being quite N(0, 1)."""
    model = exact_gaussian(linear_process(50), 0.7)
    x0 = torch.randn(8, 1, dtype=torch.float64, generator=generator(0, "data"))
    value = loss(model, x0, weight=1.0, generator=generator(0, "exact"))
    assert value.consistency < 1e-3
    exact = model.network
    model.network = lambda x, time: 1.3 * exact(x, time)
    assert loss(model, x0, weight=1.0, generator=generator(0, "exact")).consistency > 0.1


def test_it_is_a_scalar_like_any_other():
    """Added to, scaled, differentiated by torch.autograd.grad; and every draw is the generator's."""
    network, model = new_model()
    first, again, other = (
        loss(model, images(), weight=0.3, generator=generator(seed, "loss")) for seed in (0, 0, 1)
    )
    assert torch.equal(first.total, again.total) and not torch.equal(first.total, other.total)
    assert first.total.shape == () and torch.equal(first.total, first.likelihood + 0.3 * first.consistency)
    (plain,) = torch.autograd.grad(first.total, [network.first.bias])
    (scaled,) = torch.autograd.grad(2 * again.total + 1, [network.first.bias])
    torch.testing.assert_close(scaled, 2 * plain)


def test_what_it_costs():
    """One state an image, and T·M of each image with trajectories; none without λ; no more than ``chunk`` at once."""
    network, model = new_model()
    model.network = Counting(network)
    loss(model, images(), weight=0.0, generator=generator(0))
    assert model.network.forward == N
    settings = LossSettings(trajectories=3, images=2, chunk=4)
    value = loss(model, images(), weight=0.1, generator=generator(0), settings=settings)
    assert model.network.forward == 2 * N + T * 3 * 2
    assert model.network.largest <= N
    value.total.backward()  # each piece once more
    assert model.network.forward == 3 * N + 2 * T * 3 * 2


def test_pieces_agree_under_dropout():
    """What is evaluated again in the backward pass must strike the same units: the gradient is the value's."""
    network, model = new_model(dropout=0.5)

    def at(chunk):
        torch.manual_seed(3)
        settings = LossSettings(chunk=chunk)
        return loss(model, images(), weight=0.3, generator=generator(0, "loss"), settings=settings).total

    bias, step = network.second.bias, 1e-6
    (gradient,) = torch.autograd.grad(at(4), [bias])
    with torch.no_grad():
        bias[0] += step
        above = at(4)
        bias[0] -= 2 * step
        below = at(4)
        bias[0] += step
    assert gradient[0].item() == pytest.approx(((above - below) / (2 * step)).item(), rel=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"likelihood": "l2"}, "no likelihood 'l2'; there are simple and vlb"),
        ({"chain": "respaced"}, "no chain 'respaced'; there are full and subtrajectory"),
        ({"loss": "l1"}, "no loss 'l1'"),
        ({"trajectories": 1}, "at least two trajectories an image, got 1"),
        ({"chain_steps": 1}, "chain_steps must be at least 2"),
        ({"images": 0}, "images must be at least 1"),
        ({"chunk": 0}, "chunk must be at least 1 state"),
        ({"huber_delta": 0.0}, "huber_delta must be > 0"),
        ({"huber_delta": float("nan")}, "huber_delta must be > 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LossSettings(**change)


@pytest.mark.parametrize(
    "x0, message",
    [
        (
            torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
            r"x0 holds integers \(uint8\); scale pixels to \[−1, 1\]",
        ),
        (torch.zeros(2, 1, 2, 2, dtype=torch.int64), r"x0 holds integers \(int64\)"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.bool), r"x0 holds integers \(bool\)"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.float16), "x0 is float16, in which log-probabilities lose"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.bfloat16), "x0 is bfloat16"),
        (torch.zeros(2, 4, dtype=torch.complex64), "x0 holds complex numbers"),
        (torch.zeros(0, 1, 2, 2), r"x0 must be \[N, …\], at least one image"),
        (torch.zeros(3), r"x0 must be \[N, …\]"),
        (torch.full((2, 1, 2, 2), torch.nan), "x0 holds values that are not finite"),
        (torch.full((2, 1, 2, 2), 0.03), "x0 does not lie on the model's 17 levels"),
        (torch.full((2, 1, 2, 2), 255.0), "x0 does not lie on the model's 17 levels"),
    ],
)
def test_what_are_no_images_is_refused(x0, message):
    _, model = new_model(levels=17)
    for weight in (0.0, 0.1):
        with pytest.raises(ValueError, match=message):
            loss(model, x0, weight=weight, generator=generator(0))


def test_other_misuse_is_refused():
    _, model = new_model()
    x0 = images()
    with pytest.raises(ValueError, match="weight must be finite, got inf"):
        loss(model, x0, weight=float("inf"), generator=generator(0))
    settings = LossSettings(chain="subtrajectory", chain_steps=7)
    with pytest.raises(ValueError, match="chain_steps = 7, but the model has 6 steps"):
        loss(model, x0, weight=0.1, generator=generator(0), settings=settings)
    with pytest.raises(ValueError, match="generator must be on the CPU"):
        loss(model, x0, weight=0.1, generator=type("OnGPU", (), {"device": torch.device("cuda", 0)})())
    model.network = lambda x, time: x.mean((2, 3), keepdim=True)
    for weight in (0.0, 0.1):
        with pytest.raises(ValueError, match=r"x_t's shape \(5, 1, 2, 2\).*has shape \(5, 1, 1, 1\)"):
            loss(model, x0, weight=weight, generator=generator(0))
