"""The network and the process against diffusers and against DDPM's own definitions."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from helpers.settings import NETWORKS, image_settings, optimizer

from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.networks.unet import build_unet, eps_network, reinitialise
from mlegfn.randomness import generator
from mlegfn.training.checkpoint import initial_network, read_model, write_checkpoint
from mlegfn.training.loop import train
from mlegfn.training.state import new_state

SMALL = {
    "block_out_channels": [8, 16],
    "attention": [False, True],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "dropout": 0.1,
}
RECORD = {"shape": [1, 8, 8], "levels": 17, "label": "digits"}


def small_unet(seed=0, **changes):
    return reinitialise(build_unet(1, 8, **(SMALL | changes)), generator(seed, "init"))


@pytest.fixture(scope="module")
def cifar10():
    return build_unet(3, 32, **NETWORKS["ddpm"])


# ---------------------------------------------------------------- the architecture


def test_the_cifar10_network_has_ddpms_parameters(cifar10):
    assert sum(p.numel() for p in cifar10.parameters()) == 35_746_307


def test_the_cifar10_network_is_ddpms(cifar10):
    """What google/ddpm-cifar10-32's config.json says, of which diffusers' class defaults differ in several."""
    published = {
        "act_fn": "silu",
        "attention_head_dim": None,
        "block_out_channels": (128, 256, 256, 256),
        "center_input_sample": False,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "in_channels": 3,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-6,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 32,
        "time_embedding_type": "positional",
        "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    }
    assert {key: cifar10.config[key] for key in published} == published
    assert cifar10.config.dropout == 0.1
    blocks = {n: m for n, m in cifar10.named_modules() if type(m).__name__ == "ResnetBlock2D"}
    assert len(blocks) == 4 * 2 + 2 + 4 * 3 and all(m.dropout.p == 0.1 for m in blocks.values())
    attentions = [m for m in cifar10.modules() if type(m).__name__ == "Attention"]
    # 16×16 down and up, and the middle; one head each, as in DDPM.
    assert len(attentions) == 2 + 1 + 3 and all(m.heads == 1 for m in attentions)


def test_time_is_embedded_as_in_ddpm():
    """sin then cos, frequencies 10000^(−i/(half − 1)) (hojonathanho/diffusion, nn.get_timestep_embedding)."""
    embedded = small_unet().time_proj(torch.tensor([0, 3, 999]))
    half = embedded.shape[1] // 2
    frequencies = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
    angles = torch.tensor([0.0, 3, 999])[:, None] * frequencies
    torch.testing.assert_close(embedded, torch.cat([angles.sin(), angles.cos()], 1), rtol=1e-4, atol=1e-4)


def test_downsampling_pads_right_and_below_as_tensorflow_does():
    """DDPM's strided convolution has TensorFlow's SAME padding: (0, 1) at each axis."""
    network = small_unet()
    down = next(m for m in network.modules() if type(m).__name__ == "Downsample2D")
    x = torch.randn(2, 8, 8, 8, generator=generator(0, "x"))
    want = torch.nn.functional.conv2d(
        torch.nn.functional.pad(x, (0, 1, 0, 1)), down.conv.weight, down.conv.bias, stride=2
    )
    torch.testing.assert_close(down(x), want)


def test_learned_variances_double_the_output():
    network = small_unet(learned_variance=True)
    assert network(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), return_dict=False)[0].shape == (2, 2, 8, 8)


def test_sizes_that_do_not_halve_are_refused():
    with pytest.raises(ValueError, match="divisible by 4"):
        build_unet(1, 10, **(SMALL | {"block_out_channels": [8, 8, 8], "attention": [False] * 3}))


# ---------------------------------------------------------------- the initialisation


def test_the_network_starts_near_zero():
    """The last convolution is scaled by √1e-10 = 1e-5; torch's own initialisation starts at 0.1 to 1."""
    x, t = torch.randn(4, 1, 8, 8, generator=generator(0, "x")), torch.tensor([0, 10, 20, 49])
    torch.manual_seed(0)
    plain = build_unet(1, 8, **SMALL).eval()
    with torch.no_grad():
        assert plain(x, t).sample.abs().max() > 0.05
        assert small_unet().eval()(x, t).sample.abs().max() < 1e-3


def test_initial_weights_are_fan_avg_uniform(cifar10):
    """Each weight ~ U(−l, l), l = √(6 s/(fan_in + fan_out)): Var = l²/3 within 5 standard errors of a uniform's
    variance estimate, (l²/3)·√(4/5/n), for the large layers; s = 1e-10 where DDPM starts a branch at zero."""
    reinitialise(cifar10, generator(0, "init"))
    near_zero = large = 0
    for name, module in cifar10.named_modules():
        if isinstance(module, torch.nn.GroupNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all()
        if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            continue
        weight, area = module.weight.detach(), module.weight[0, 0].numel()
        fans = (weight.shape[0] + weight.shape[1]) * area
        scale = 1e-10 if name.endswith(("conv2", "to_out.0")) or name == "conv_out" else 1.0
        near_zero += scale < 1
        limit = math.sqrt(6 * scale / fans)
        assert weight.abs().max() <= limit * (1 + 1e-6)
        assert (module.bias == 0).all()
        if weight.numel() > 10_000:
            large += 1
            assert weight.var() == pytest.approx(limit**2 / 3, rel=5 * math.sqrt(0.8 / weight.numel()))
            assert weight.mean().abs() < 5 * limit / math.sqrt(3 * weight.numel())
    assert near_zero == 22 + 6 + 1 and large > 60  # residual blocks, attentions, the output


def test_initial_weights_are_a_function_of_the_seed():
    one, same, other = (torch.cat([p.flatten() for p in small_unet(seed).parameters()]) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


# ---------------------------------------------------------------- the process


def scheduler(variance_type="fixed_small", double=True):
    """diffusers' DDPMScheduler on our schedule; ``double``: with its own formulas, but float64 tables."""
    made = DDPMScheduler(
        num_train_timesteps=1000, beta_schedule="linear", variance_type=variance_type, clip_sample=False
    )
    if double:
        made.betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        made.alphas = 1 - made.betas
        made.alphas_cumprod = made.alphas.cumprod(0)
        made.one = torch.ones((), dtype=torch.float64)
    return made


@pytest.fixture(scope="module")
def denoiser():
    """A U-Net whose every weight matters (no near-zero branch), in float64, and its model."""
    network = small_unet(dropout=0.0).double().eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith(("conv2.weight", "to_out.0.weight", "conv_out.weight")):
            parameter.mul_(3e4)
    process = GaussianDiffusion(betas(1000))
    return network, DenoisingModel(eps_network(network), process, fixed_log_variance(process, "small"))


def states(count, key):
    return torch.randn(count, 1, 8, 8, generator=generator(0, key), dtype=torch.float64)


@pytest.mark.parametrize("double, tolerance", [(True, 1e-10), (False, 2e-3)])
def test_the_reverse_mean_is_diffusers(denoiser, double, tolerance):
    """Same weights, same x_t → same mean of x_{t−1}. diffusers goes by x̂_0 and the posterior, we by ε. Its tables
    are float32: 1 − ᾱ_t is then good to 1e-3 of itself at small t, which the second tolerance allows."""
    network, model = denoiser
    diffusers_process = scheduler(double=double)
    for time in (0, 1, 2, 10, 500, 998, 999):
        x_t = states(2, ("x_t", time))
        out = network(x_t, time).sample
        ours = model.process.reverse_mean(x_t, time + 1, model.predict(x_t, torch.full((2,), time + 1)).eps)
        stepped = diffusers_process.step(out, time, x_t, generator=torch.Generator().manual_seed(0))
        theirs = stepped.prev_sample
        if time > 0:  # it adds noise: take away the same
            noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            theirs = theirs - diffusers_process._get_variance(time) ** 0.5 * noise
        assert (out.abs() > 0.01).any()
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_one_sampling_step_is_diffusers(denoiser):
    """Mean, variance and noise together, with diffusers' draws in place of ours."""
    network, model = denoiser
    made = scheduler()
    x = states(2, "x")
    for time in (999, 300, 1):
        out = network(x, time).sample
        theirs = made.step(out, time, x, generator=torch.Generator().manual_seed(time)).prev_sample
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(time), dtype=torch.float64)
        prediction = model.predict(x, torch.full((2,), time + 1))
        ours = model.process.reverse_mean(x, time + 1, prediction.eps)
        ours = ours + (0.5 * prediction.log_variance).exp() * noise
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["large", "small"])
def test_fixed_variances_are_diffusers(kind):
    """From t = 2 on; at t = 1 (its time 0) no noise is drawn, so DDPM's β̃_2 and diffusers' differ harmlessly."""
    made, table = scheduler(f"fixed_{kind}"), fixed_log_variance(GaussianDiffusion(betas(1000)), kind)
    for time in (1, 2, 500, 999):
        assert made._get_variance(time).item() == pytest.approx(table[time + 1].exp().item(), rel=1e-10)


def test_learned_variances_are_diffusers():
    made, process = scheduler("learned_range"), GaussianDiffusion(betas(1000))
    for time in (1, 500, 999):
        v = states(1, ("v", time))
        model = DenoisingModel(lambda x, t, v=v: torch.cat([x, v], 1), process)
        ours = model.predict(v, torch.tensor([time + 1])).log_variance
        theirs = made._get_variance(time, predicted_variance=v)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_noising_is_diffusers():
    x0, noise, times = states(5, "x0"), states(5, "noise"), torch.tensor([0, 1, 10, 500, 999])
    ours = GaussianDiffusion(betas(1000)).noise(x0, times + 1, noise)
    torch.testing.assert_close(scheduler().add_noise(x0, noise, times), ours, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        scheduler(double=False).add_noise(x0, noise, times), ours, rtol=2e-3, atol=2e-3
    )


# ---------------------------------------------------------------- EMA and checkpoints


def trained_state(steps=3, **changes):
    scale = image_settings()
    network = initial_network(scale, RECORD, 0)
    settings = optimizer(**changes)
    state = new_state(network, settings)
    weights = []

    def accumulate(step):
        x = torch.randn(4, 1, 8, 8, generator=generator(0, "train", step))
        loss = (network(x, torch.tensor([0, 1, 2, 3])).sample - x).pow(2).mean()
        loss.backward()
        return {"loss": loss.item()}

    def remember(state, _):
        weights.append([p.detach().clone() for p in state.network.parameters()])

    train(state, accumulate, settings, steps, after_step=remember)
    return state, scale, weights


def test_the_ema_is_a_copy_at_first_and_then_decays():
    """s_1 = w_1, s_k = d s_{k−1} + (1 − d) w_k, in float64 against our float32; and diffusers', bit for bit."""
    state, _, weights = trained_state(steps=5, ema_decay=0.7, warmup=0)
    shadow = [w.double() for w in weights[0]]
    weights = [[torch.nn.Parameter(w) for w in step] for step in weights]  # EMAModel skips plain tensors
    theirs = EMAModel(weights[0], decay=0.7, min_decay=0.7, foreach=True)
    theirs.step(weights[0])
    for step in weights[1:]:
        shadow = [0.7 * s + 0.3 * w.double() for s, w in zip(shadow, step, strict=True)]
        theirs.step(step)
    for want, got, diffusers in zip(shadow, state.ema.shadow_params, theirs.shadow_params, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-7)
        assert torch.equal(got, diffusers)
    # The weights moved enough for an average of another kind to be seen.
    moved = max((a - b).abs().max() for a, b in zip(weights[-1], state.ema.shadow_params, strict=True))
    assert moved > 1e-4


def test_diffusers_opens_a_checkpoint(tmp_path):
    """EMA weights bit-equal, our schedule, and images come out."""
    state, scale, _ = trained_state()
    write_checkpoint(tmp_path / "c", state, scale, RECORD, [0.5] * 8)
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "c", local_files_only=True)
    assert isinstance(pipeline.unet, UNet2DModel)
    found = dict(pipeline.unet.named_parameters())
    for (name, _), shadow in zip(state.network.named_parameters(), state.ema.shadow_params, strict=True):
        assert torch.equal(found[name], shadow)
    assert any(not torch.equal(found[name], raw) for name, raw in state.network.named_parameters())
    process = read_model(tmp_path / "c", scale).process
    assert pipeline.scheduler.config.num_train_timesteps == 8
    np.testing.assert_allclose(pipeline.scheduler.betas.numpy(), process.beta[1:].numpy(), rtol=1e-6)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(batch_size=2, num_inference_steps=8, output_type="np").images
    assert images.shape == (2, 8, 8, 1) and np.isfinite(images).all()
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pkl"))


def test_a_read_model_is_the_written_one(tmp_path):
    state, scale, _ = trained_state()
    errors = torch.linspace(0.9, 0.1, 8).tolist()
    write_checkpoint(tmp_path / "c", state, scale, RECORD, errors)
    model = read_model(tmp_path / "c", scale)
    averaged = build_unet(1, 8, **scale.network.model_dump()).eval()
    averaged.load_state_dict(state.ema_weights())
    x_t, t = torch.randn(8, 1, 8, 8, generator=generator(0, "x")), torch.arange(1, 9)
    with torch.no_grad():
        prediction = model.predict(x_t, t)
        assert torch.equal(prediction.eps, averaged(x_t, t - 1).sample)
    process = model.process
    want = process.posterior_variance[1:] + process.eps_to_mean[1:] ** 2 * torch.tensor(errors)
    torch.testing.assert_close(prediction.log_variance.flatten().exp(), want.float())
    assert model.levels == 17
