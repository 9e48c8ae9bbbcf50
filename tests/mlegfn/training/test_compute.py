"""Precision, layout and compilation change the speed, not the result; and no GPU waits."""

import contextlib
import os
import signal

import pytest
import torch
from helpers.exact import TinyNetwork, linear_process
from helpers.settings import image_settings, optimizer
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode

from mlegfn.data import scale_to_unit
from mlegfn.data.resident import Resident, unit_images
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.errors import Interrupted
from mlegfn.randomness import generator
from mlegfn.training import compute as compute_module
from mlegfn.training import loop
from mlegfn.training.checkpoint import build_network, initial_network, model_of
from mlegfn.training.compute import compile_network, fast_network, place, regions
from mlegfn.training.finetuning import finetune_gradient
from mlegfn.training.loop import train
from mlegfn.training.pretraining import pretrain_gradient
from mlegfn.training.scratch import Scratch
from mlegfn.training.state import new_state

RECORD = {"shape": [1, 8, 8], "label": "digits"}
OPTIMIZER = optimizer(lr=0.01, ema_decay=0.8)


def smoke(**compute):
    return image_settings(compute=compute)


def levels(count=16):
    return torch.randint(0, 17, (count, 1, 8, 8), generator=generator(0, "levels")).to(torch.uint8)


def awake(network):
    """The network with an output that is not near zero, as the initial one's is."""
    with torch.no_grad():
        network.conv_out.weight.normal_(0, 0.1, generator=generator(0, "weights"))
    return network


def loss_and_gradient(scale):
    """L_simple of one batch at some seed-made weights, and its gradient as one vector."""
    network = place(awake(initial_network(scale, RECORD, 0)), scale.compute, "cpu").train()
    accumulate = pretrain_gradient(
        model_of(network, scale, 17), Resident(levels(), 17, "cpu"), scale.pretrain, True
    )
    loss = accumulate(0)["loss"]
    return loss, torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.mark.parametrize(
    "compute,tolerance",
    [({"channels_last": True}, 1e-5), ({"precision": "bf16"}, 0.02), ({"precision": "tf32"}, 1e-6)],
)
def test_the_loss_and_its_gradient_are_those_of_plain_fp32(compute, tolerance):
    plain, gradient = loss_and_gradient(smoke())
    loss, other = loss_and_gradient(smoke(**compute))
    assert loss.dtype == other.dtype == torch.float32
    assert loss.item() == pytest.approx(plain.item(), rel=tolerance)
    assert (other - gradient).norm() < 3 * tolerance * gradient.norm()
    assert torch.equal(other, gradient) == (compute == {"precision": "tf32"})  # a CPU has none: the same


def test_training_and_evaluation_have_precisions_of_their_own():
    scale = smoke(precision="bf16", evaluation="fp32")
    network = awake(initial_network(scale, RECORD, 0))
    x, time = torch.randn(2, 1, 8, 8), torch.tensor([1, 5])
    with torch.no_grad():
        exact = network.eval()(x, time, return_dict=False)[0]
        assert torch.equal(fast_network(network, scale.compute)(x, time), exact)
        rounded = fast_network(network.train(), scale.compute)(x, time)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert torch.allclose(rounded, exact, atol=0.05 * exact.abs().max().item())


def test_channels_last_keeps_names_and_values_of_a_training_state():
    scale = smoke(channels_last=True)
    network = place(initial_network(scale, RECORD, 0), scale.compute, "cpu")
    plain = initial_network(scale, RECORD, 0)
    one, other = (new_state(n, OPTIMIZER).tensors() for n in (network, plain))
    assert one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
    assert all(value.is_contiguous() for value in one.values())


def test_a_resumed_training_in_channels_last_is_the_uninterrupted_one():
    """A fused Adam pairs weights and moments in memory order, so both must come back in the same layout."""
    scale = smoke(channels_last=True)

    def trained(state, stop):
        network = state.network
        images = Resident(levels(), 17, "cpu")
        gradient = pretrain_gradient(model_of(network, scale, 17), images, scale.pretrain, False)
        train(state, gradient, OPTIMIZER, stop)
        return state.tensors()

    def fresh():
        return new_state(place(awake(initial_network(scale, RECORD, 0)), scale.compute, "cpu"), OPTIMIZER)

    whole = trained(fresh(), 6)
    resumed = fresh()
    resumed.load(trained(fresh(), 3))
    for parameter, moments in resumed.optimizer.state.items():
        assert moments["exp_avg"].stride() == moments["exp_avg_sq"].stride() == parameter.stride()
    again = trained(resumed, 6)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


# ---------------------------------------------------------------- compilation


@pytest.fixture
def eager_backend(monkeypatch):
    """torch.compile with dynamo's capture but no code generation: seconds less, the same places."""
    compile_module = torch.nn.Module.compile
    seen = []

    def with_backend(module, **options):
        seen.append((module, options))
        compile_module(module, backend="eager", dynamic=options["dynamic"])

    monkeypatch.setattr(torch.nn.Module, "compile", with_backend)
    return seen


@pytest.mark.parametrize("kind", ["regional", "full"])
def test_compiled_is_interpreted(eager_backend, kind):
    scale = smoke(compile=kind)
    network = awake(initial_network(scale, RECORD, 0)).train()
    x, time, names = torch.randn(3, 1, 8, 8), torch.tensor([1, 5, 7]), list(network.state_dict())
    plain = fast_network(network, scale.compute)(x, time)
    compile_network(network, scale.compute)
    assert all(options["recompile_limit"] > 8 for _, options in eager_backend)
    assert len(eager_backend) == (len(regions(network)) if kind == "regional" else 1) > 0
    assert all(p.grad is None for p in network.parameters())  # the trial leaves nothing
    assert list(network.state_dict()) == names
    assert torch.allclose(fast_network(network, scale.compute)(x, time), plain, atol=1e-6)
    with torch.compiler.set_stance("force_eager"):
        assert torch.equal(fast_network(network, scale.compute)(x, time), plain)


def test_regions_cover_nearly_all_parameters():
    network = build_network(image_settings("ddpm"), {"shape": [3, 32, 32], "label": "x"})
    inside = {id(p) for module in regions(network) for p in module.parameters()}
    covered = sum(p.numel() for p in network.parameters() if id(p) in inside)
    assert covered > 0.97 * sum(p.numel() for p in network.parameters())


def test_a_compiler_that_fails_is_said_and_done_without(monkeypatch, capsys):
    def fail(graph, inputs):
        raise RuntimeError("gcc: not found\nand more")

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **_: compile_module(module, backend=fail))
    scale = smoke(compile="regional")
    network = initial_network(scale, RECORD, 0)
    compile_network(network, scale.compute)
    (line,) = capsys.readouterr().out.splitlines()
    assert "torch.compile failed" in line and "gcc: not found" in line and "compile: none" in line
    assert (
        fast_network(network, scale.compute)(torch.randn(2, 1, 8, 8), torch.tensor([1, 2])).isfinite().all()
    )
    torch.compiler.set_stance("default")


def test_a_cpu_does_not_compile(monkeypatch):
    monkeypatch.setattr(compute_module, "compile_network", lambda *_: pytest.fail("compiled"))
    scale = smoke(compile="full")
    place(initial_network(scale, RECORD, 0), scale.compute, "cpu")


# ---------------------------------------------------------------- a GPU does not wait for the host


class FakeGpu(TorchFunctionMode):
    """torch's fake tensors as a GPU: operations know shapes and devices but have no values, so whatever reads a
    value back, as ``.item()``, ``bool`` or ``nonzero`` do, raises DataDependentOutputException."""

    def __init__(self):
        super().__init__()
        self.mode = FakeTensorMode()

    def onto(self, device, drawn):
        if torch.device(device).type != "cuda":
            return drawn.to(device)
        with self.mode:
            return self.mode.from_tensor(drawn).to("cuda")

    def __torch_function__(self, function, types, args=(), kwargs=None):
        device = (kwargs or {}).get("device")
        on_gpu = device is not None and torch.device(device).type == "cuda"
        with self.mode if on_gpu else contextlib.nullcontext():
            return function(*args, **(kwargs or {}))


@pytest.fixture
def fake_gpu(monkeypatch):
    gpu = FakeGpu()
    for module in (
        "diffusion.process",
        "diffusion.model",
        "training.chains",
        "training.pretraining",
        "training.finetuning",
        "training.mle_gfn",
        "data.resident",
    ):
        monkeypatch.setattr(f"mlegfn.{module}.onto", gpu.onto)
    # Autograd's engine and CUDA's random state want a real device; the forward passes are what is looked at.
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)
    monkeypatch.setattr(torch.autograd, "grad", lambda out, of: (torch.zeros_like(of),))
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: contextlib.nullcontext())
    return gpu


CHAINS = [
    {"chain": chain, "gradient": gradient, "chunk": chunk, "chain_steps": 4}
    for chain in ("full", "respaced", "subtrajectory")
    for gradient in ("exact", "subsampled")
    for chunk in (7, 1024)
]


def on_fake_gpu(gpu, variance="analytic", **network):
    scale = smoke()
    scale = scale.model_copy(update={"network": scale.network.model_copy(update=network)})
    scale = scale.model_copy(update={"diffusion": scale.diffusion.model_copy(update={"variance": variance})})
    with gpu.mode, torch.device("cuda"):
        network = build_network(scale, RECORD)
    return scale, model_of(network, scale, 17), Resident(levels(), 17, "cuda")


@pytest.mark.parametrize("variance", ["large", "learned"])
def test_a_pretraining_step_reads_nothing_back(fake_gpu, variance):
    scale, model, images = on_fake_gpu(fake_gpu, variance)
    accumulate = pretrain_gradient(model, images, scale.pretrain, True)
    with fake_gpu:
        assert accumulate(0)["loss"].device.type == "cuda"


@pytest.mark.parametrize("arm", ["simple", "reweighted", "vlb_tbc"])
@pytest.mark.parametrize("chain", CHAINS, ids=lambda c: f"{c['chain']}-{c['gradient']}-{c['chunk']}")
def test_a_finetuning_step_reads_nothing_back(fake_gpu, arm, chain):
    # The whole network once for each arm; which chain it is evaluated in makes no difference to it.
    small = {} if chain is CHAINS[0] else {"block_out_channels": [8], "attention": [False]}
    scale, model, images = on_fake_gpu(fake_gpu, **small)
    tbc = scale.finetune.consistency.model_copy(update=chain)
    settings = scale.finetune.model_copy(update={"consistency": tbc})
    if arm == "reweighted":  # its μ is read back, once, before the training
        chosen = settings.consistency.model_copy(update={"weight": 0.0})
        settings = settings.model_copy(update={"consistency": chosen})
    made = finetune_gradient(model, images, settings, arm, (4,), 0, True, [1.0] * 8, "analytic")
    with fake_gpu:
        assert made.accumulate(0)["loss"].device.type == "cuda"


def test_the_fake_gpu_notices_what_reads_back(fake_gpu):
    scale, model, images = on_fake_gpu(fake_gpu)
    with fake_gpu, pytest.raises(DataDependentOutputException):
        pretrain_gradient(model, images, scale.pretrain, True)(0)["loss"].item()


def test_entries_are_read_late_where_reading_costs(monkeypatch):
    """Numbers arrive in the same entries, the weights are the same, and the bar does not ask before."""
    results = {}
    for every in (1, 4):
        monkeypatch.setitem(loop.READ_EVERY, "cpu", every)
        state, logs, unread = tiny_state(), [], []

        def after_step(state, entry, logs=logs, unread=unread):
            logs.append(entry)
            unread.append(isinstance(entry["loss"], torch.Tensor))

        train(state, quadratic(state), OPTIMIZER, 10, after_step=after_step)
        results[every] = (logs, state.tensors(), unread)
    assert results[1][0] == results[4][0] and len(results[4][0]) == 10
    assert all(
        isinstance(value, float) for entry in results[4][0] for k, value in entry.items() if k != "step"
    )
    assert all(torch.equal(results[1][1][n], results[4][1][n]) for n in results[1][1])
    assert results[1][2] == [False] * 10
    assert results[4][2] == [True, True, True, False, True, True, True, False, True, False]


def test_a_gradient_that_is_not_finite_is_found_late_but_never_saved(monkeypatch, tmp_path):
    monkeypatch.setitem(loop.READ_EVERY, "cpu", 100)
    state, logs = tiny_state(), []
    scratch = Scratch(tmp_path, every_minutes=1e-9, logs=logs)
    good = quadratic(state)

    def accumulate(step):
        entry = good(step)
        if step == 2:
            for p in state.network.parameters():
                p.grad.fill_(float("nan"))
        return entry

    with pytest.raises(FloatingPointError, match="step 2"):
        train(state, accumulate, OPTIMIZER, 10, after_step=lambda _, e: logs.append(e), saver=scratch)
    assert [p.name for p in tmp_path.iterdir()] == ["2"]


@pytest.mark.parametrize("levels_", [None, 17])
def test_the_decoder_of_all_rows_is_that_of_the_first_step_s_rows(monkeypatch, levels_):
    """What a GPU does (every row, then a choice) against what a CPU does (look for the rows), with gradients."""
    from mlegfn.diffusion.variances import fixed_log_variance

    process = linear_process(6)
    x0 = torch.randint(0, 17, (5, 1, 2, 2), generator=generator(0, "x0")).double() / 8 - 1
    t = torch.tensor([1, 4, 1, 6, 2])
    x_t = process.noise(x0, t, torch.randn(x0.shape, generator=generator(0, "e"), dtype=torch.float64))
    found = []
    for everywhere in (False, True):
        network = TinyNetwork(outputs=1)
        with torch.no_grad():
            network.second.bias += 40.0  # far off: the decoder of a later step's row would overflow
        model = DenoisingModel(network, process, fixed_log_variance(process, "small"), levels_)
        model.every_row = everywhere
        values = torch.cat([model.bound_terms(x0, x_t, t), model.log_pf(x0, x_t, t)])
        values.sum().backward()
        found.append((values.detach(), [p.grad for p in network.parameters()]))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-12)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one.isfinite().all() and torch.allclose(one, other, rtol=1e-9)


def test_resident_images_are_the_images():
    resident, plain = Resident(levels(), 17, "cpu"), unit_images(levels(), 17, "cpu")
    rows = torch.tensor([3, 0, 3, 15])
    assert torch.equal(resident[rows], plain[rows]) and torch.equal(resident[2:5], plain[2:5])
    assert len(resident) == len(plain) and resident.shape == plain.shape
    assert torch.equal(resident[rows], scale_to_unit(levels()[rows], 17))


# ---------------------------------------------------------------- asked to stop


def tiny_state():
    return new_state(TinyNetwork(dtype=torch.float32), OPTIMIZER)


def quadratic(state):
    def accumulate(step):
        x = torch.randn(3, 1, 2, 2, generator=generator(0, "x", step))
        loss = state.network(x, torch.tensor([step] * 3)).pow(2).mean()
        loss.backward()
        return {"loss": loss.detach()}

    return accumulate


@pytest.fixture
def ctrl_c():
    """Python's own answer to Ctrl-C, which a shell's background job starts without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("signum,error", [(signal.SIGTERM, Interrupted), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_saves_the_step_it_arrives_in_and_the_rest_is_the_same(tmp_path, signum, error):
    whole, logs = tiny_state(), []
    train(whole, quadratic(whole), OPTIMIZER, 10, after_step=lambda _, e: logs.append(e))

    state, entries = tiny_state(), []
    scratch = Scratch(tmp_path, every_minutes=60, logs=entries)
    good = quadratic(state)

    def accumulate(step):
        if step == 4:
            os.kill(os.getpid(), signum)
        return good(step)

    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(error):
        train(state, accumulate, OPTIMIZER, 10, after_step=lambda _, e: entries.append(e), saver=scratch)
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert [p.name for p in tmp_path.iterdir()] == ["5"]

    again, rest = tiny_state(), []
    scratch = Scratch(tmp_path, every_minutes=60, logs=rest)
    scratch.resume(again)
    assert again.step == 5
    train(again, quadratic(again), OPTIMIZER, 10, after_step=lambda _, e: rest.append(e), saver=scratch)
    assert rest == logs
    assert all(torch.equal(a, whole.tensors()[n]) for n, a in again.tensors().items())


def test_without_a_saver_a_signal_does_what_it_always_does(ctrl_c):
    state = tiny_state()
    good = quadratic(state)

    def accumulate(step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return good(step)

    with pytest.raises(KeyboardInterrupt):
        train(state, accumulate, OPTIMIZER, 3)
    assert state.step == 1


def test_a_full_disk_keeps_the_state_before(tmp_path, monkeypatch):
    import safetensors.torch

    scratch = Scratch(tmp_path, every_minutes=1e-9, logs=[])
    state = tiny_state()
    train(state, quadratic(state), OPTIMIZER, 3)
    scratch.save(state)

    def no_space(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(safetensors.torch, "save_file", no_space)
    state.step = 5
    with pytest.raises(OSError, match="No space"):
        scratch.save(state)
    assert [p.name for p in tmp_path.iterdir()] == ["3"]
    fresh = tiny_state()
    Scratch(tmp_path, every_minutes=1, logs=[]).resume(fresh)
    assert fresh.step == 3


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    """The time of day may be set back or forth; only the monotonic clock says when a save is due."""
    import time

    scratch = Scratch(tmp_path, every_minutes=10, logs=[])
    for jump in (-1e9, 1e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.8e9 + jump)
        assert not scratch.due()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 601)
    assert scratch.due()
