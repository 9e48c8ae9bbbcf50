"""Diffusers folders against diffusers' own scheduler and pipeline, and ours against our own reader."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, PNDMScheduler
from helpers.diffusers_folders import SCHEDULER, STEPS, UNET, save, stock_folder, unet
from helpers.settings import image_settings, optimizer
from scipy.stats import norm

from mlegfn.checkpoints import read, write
from mlegfn.checkpoints.reader import epsilon_function
from mlegfn.checkpoints.scheduler import read_scheduler
from mlegfn.data import digits, scale_to_unit
from mlegfn.diffusion.likelihood import bits_per_dim, epsilon_errors, image_noise
from mlegfn.diffusion.sampling import generate
from mlegfn.randomness import generator
from mlegfn.training.checkpoint import initial_network, read_model, write_checkpoint
from mlegfn.training.state import new_state


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder that diffusers wrote. Do not change it."""
    return stock_folder(tmp_path_factory.mktemp("stock"))


# ---------------------------------------------------------------- the scheduler


@pytest.mark.parametrize(
    "scheduler",
    [
        DDPMScheduler(1000),
        DDPMScheduler(1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2"),
        DDPMScheduler(7, trained_betas=[0.1, 0.2, 0.05, 0.3, 0.4, 0.5, 0.6]),
        DDIMScheduler(50, beta_start=0.01, beta_end=0.3),
        PNDMScheduler(50, beta_start=0.01, beta_end=0.3),
    ],
    ids=["linear", "scaled_linear", "squaredcos_cap_v2", "trained", "ddim", "pndm"],
)
def test_schedules_are_diffusers_tables(tmp_path, scheduler):
    """In float64 here, in float32 there: β to 1e-6 of itself, ᾱ after a thousand factors to 1e-4."""
    scheduler.save_config(tmp_path)
    process = read_scheduler(tmp_path / "scheduler_config.json").process
    assert process.beta.dtype == torch.float64
    torch.testing.assert_close(process.beta[1:], scheduler.betas.double(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(process.alpha_bar[1:], scheduler.alphas_cumprod.double(), rtol=1e-4, atol=1e-9)


def test_what_the_scheduler_leaves_out_has_its_class_default(tmp_path):
    (tmp_path / "scheduler_config.json").write_text('{"_class_name": "DDPMScheduler"}')
    found = read_scheduler(tmp_path / "scheduler_config.json")
    assert found.process.timesteps == 1000 and found.variance == "small" and found.clip == 1.0
    torch.testing.assert_close(found.process.beta[1000].item(), 0.02)


@pytest.mark.parametrize(
    "kind, square",
    [
        ("fixed_small", lambda v: v),
        ("fixed_small_log", lambda v: v**2),  # diffusers gives the standard deviation,
        ("fixed_large", lambda v: v),
        ("fixed_large_log", lambda v: v.exp()),  # the logarithm,
    ],
)
def test_fixed_variances_are_diffusers_but_for_the_first(tmp_path, kind, square):
    """Where diffusers has 1e-20, or β_1, at its t = 0, we have DDPM's β̃_2 (its t = 1)."""
    scheduler = DDPMScheduler(**STEPS, variance_type=kind)
    table = read(save(tmp_path / "x", scheduler)).model(256).log_variance.exp()
    theirs = torch.stack([square(scheduler._get_variance(t)) for t in range(1, 6)]).double()
    torch.testing.assert_close(table[2:], theirs, rtol=1e-5, atol=0)
    small = scheduler._get_variance(1, variance_type="fixed_small").item()
    assert table[1].item() == pytest.approx(small, rel=1e-5)


def test_learned_variances_interpolate_as_in_diffusers(tmp_path):
    scheduler = DDPMScheduler(**STEPS, variance_type="learned_range")
    folder = save(tmp_path / "x", scheduler, unet(out_channels=2))
    model = read(folder).model(256)
    x, t = torch.randn(5, 1, 8, 8, generator=generator(0)), torch.arange(2, 7)
    prediction = model.predict(x, t)
    out = DDPMPipeline.from_pretrained(folder).unet(x, t - 1).sample.detach()
    assert torch.equal(prediction.eps, out[:, :1])
    theirs = [scheduler._get_variance(int(i) - 1, predicted_variance=v) for i, v in zip(t, out[:, 1:])]
    torch.testing.assert_close(prediction.log_variance, torch.stack(theirs), rtol=1e-4, atol=1e-4)
    # A fixed one in its place leaves ε alone.
    assert torch.equal(read(folder, variance="small").model(256).predict(x, t).eps, out[:, :1])


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_prediction_types_mean_the_same_noise(stock, kind):
    """A network that knows x_0 and ε, whatever it puts out, is read as ε, and x̂_0 is diffusers'."""
    scheduler = DDPMScheduler(**STEPS, prediction_type=kind, clip_sample=False)
    process = read(stock).scheduler.process
    x0, eps = torch.randn(2, 6, 1, 8, 8, generator=generator(0))
    t = torch.arange(1, 7)
    x = process.noise(x0, t, eps)
    out = {"epsilon": eps, "v_prediction": scheduler.get_velocity(x0, eps, t - 1), "sample": x0}[kind]
    function = epsilon_function(lambda *_: out, process, kind, learned=False)
    torch.testing.assert_close(function(x, t - 1), eps, rtol=1e-4, atol=1e-4)
    for row in range(6):
        one = slice(row, row + 1)
        theirs = scheduler.step(out[one], row, x[one]).pred_original_sample
        ours = process.predict_x0(x[one], t[one], function(x, t - 1)[one])
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- the likelihood


def by_diffusers(folder, x0, levels, first_variance, monkeypatch):
    """Bits/dim of one image at our noise, from diffusers' pipeline, its scheduler's means and variances and
    textbook formulas: (unclipped, clipped)."""
    pipeline = DDPMPipeline.from_pretrained(folder)
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda shape, **_: torch.zeros(shape)
    )
    both = []
    noise = image_noise(x0, [0], 6, (0, "nll"))
    for clip in (False, True):
        exact, scheduler = (
            DDPMScheduler.from_config(pipeline.scheduler.config, clip_sample=c) for c in (False, clip)
        )
        total = 0.0
        for t in range(6):
            x_t = scheduler.add_noise(x0, noise[t], torch.tensor([t]))
            out = pipeline.unet(x_t, t).sample.detach()
            mean = scheduler.step(out, t, x_t).prev_sample.double()
            true_mean = exact.step(noise[t], t, x_t).prev_sample.double()
            if t == 0:
                edges = (np.arange(1, levels) - 0.5) * 2 / (levels - 1) - 1
                edges = np.concatenate([[-np.inf], edges, [np.inf]])
                at = ((x0 + 1) * (levels - 1) / 2).round().long().numpy()
                std = math.sqrt(first_variance)
                mass = norm.cdf(edges[at + 1], mean, std) - norm.cdf(edges[at], mean, std)
                total -= np.log(mass).sum()
            else:
                true = exact._get_variance(t, variance_type="fixed_small").double()
                q = torch.distributions.Normal(true_mean, true.sqrt())
                p = torch.distributions.Normal(mean, scheduler._get_variance(t).double().sqrt())
                total += torch.distributions.kl_divergence(q, p).sum().item()
        last = scheduler.alphas_cumprod[-1].double()
        q = torch.distributions.Normal(last.sqrt() * x0.double(), (1 - last).sqrt())
        total += torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum().item()
        both.append(total / (x0.numel() * math.log(2)))
    return both


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_bits_per_dim_by_diffusers_own_posterior(tmp_path, monkeypatch, variance):
    folder = save(tmp_path / "x", DDPMScheduler(**STEPS, variance_type=variance))
    x0 = scale_to_unit(digits.load().test_images[:1], 17)
    found = bits_per_dim(read(folder).model(17), x0)
    first = DDPMScheduler(**STEPS)._get_variance(1, variance_type="fixed_small").item()
    plain, clipped = by_diffusers(folder, x0, 17, first, monkeypatch)
    # float32 tables and states there: 1 − ᾱ_t, at its smallest 0.05, keeps five digits.
    assert found.per_image.item() == pytest.approx(plain, rel=1e-4)
    assert found.per_image_clipped.item() == pytest.approx(clipped, rel=1e-4)
    assert abs(plain - clipped) > 0.1  # or the test would not tell them apart


@pytest.mark.parametrize("variance", ["analytic", "learned", "large"])
def test_our_own_checkpoint_is_read_as_by_its_own_reader(tmp_path, variance):
    """Exactly: the recorded variances rather than the scheduler's, the recorded decoder and levels."""
    settings = image_settings(diffusion={"variance": variance})
    images = digits.load()
    state = new_state(initial_network(settings, images.record, 0), optimizer())
    errors = [0.3 + 0.1 * t for t in range(8)] if variance == "analytic" else None
    write_checkpoint(tmp_path / "ours", state, settings, images.record, errors)
    x0 = scale_to_unit(images.test_images[:5], 17)
    expected = bits_per_dim(read_model(tmp_path / "ours", settings), x0, seed=3, batch=20)
    external = read(tmp_path / "ours")
    found = bits_per_dim(external.model(external.levels), x0, seed=3, batch=20)
    assert torch.equal(found.per_image, expected.per_image)
    assert torch.equal(found.per_image_clipped, expected.per_image_clipped)
    assert (external.variance, external.source, external.levels) == (variance, "mlegfn.json", 17)


def test_analytic_variances_are_the_best_for_the_images_they_are_estimated_on(stock):
    """The mean bound over training images: below that of β_t and β̃_t, which an untrained network makes
    far from optimal."""
    x0, best = scale_to_unit(digits.load().train_images[:40], 17), {}
    for kind in ("analytic", "large", "small"):
        external = read(stock, variance=kind)
        errors = epsilon_errors(external.model(17), x0).mean(1) if kind == "analytic" else None
        best[kind] = bits_per_dim(external.model(17, errors), x0).terms[1:].sum()
    assert best["analytic"] < 0.9 * min(best["large"], best["small"])


# ---------------------------------------------------------------- samples, and folders that are written


@pytest.mark.parametrize("clip", [True, False])
def test_sampling_is_diffusers_on_equal_noise(tmp_path, monkeypatch, clip):
    folder = save(tmp_path / "x", DDPMScheduler(**STEPS, variance_type="fixed_large"), unet(seed=1))
    external = read(folder)
    model = external.model(256, clip=external.scheduler.clip if clip else None)
    states, _ = generate(model, (3, 1, 8, 8), 2, generator(0, "sample"))
    draw = generator(0, "sample")
    noise = [torch.randn(3, 1, 8, 8, generator=draw) for _ in range(6)]
    pipeline = DDPMPipeline.from_pretrained(folder)
    pipeline.register_modules(
        scheduler=DDPMScheduler.from_config(pipeline.scheduler.config, clip_sample=clip)
    )
    pipeline.set_progress_bar_config(disable=True)
    draws = iter([*noise, torch.zeros(3, 1, 8, 8)])
    for module in ("schedulers.scheduling_ddpm", "pipelines.ddpm.pipeline_ddpm"):
        monkeypatch.setattr(f"diffusers.{module}.randn_tensor", lambda *_, **__: next(draws))
    theirs = pipeline(batch_size=3, num_inference_steps=6, output_type="np").images
    ours = ((states[-1] + 1) / 2).clamp(0, 1).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert len(np.unique(ours)) > 20


def test_what_is_written_is_a_diffusers_folder_again(stock, tmp_path):
    """Other weights, the same scheduler to the byte, and what a scheduler cannot say in mlegfn.json."""
    external = read(stock, variance="analytic")
    weights = {name: value + 0.01 for name, value in external.network.state_dict().items()}
    record, errors = digits.load().record, [0.5 + 0.1 * t for t in range(6)]
    write(tmp_path / "out", external, weights, record, torch.tensor(errors), {"steps": 2})
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "out")
    for name, value in pipeline.unet.state_dict().items():
        assert torch.equal(value, weights[name])
    assert (stock / SCHEDULER).read_bytes() == (tmp_path / "out" / SCHEDULER).read_bytes()
    assert isinstance(pipeline.scheduler, DDPMScheduler)
    again = read(tmp_path / "out")
    assert (again.variance, again.source, again.levels) == ("analytic", "mlegfn.json", 17)
    assert again.errors == pytest.approx(errors) and again.record["finetune"] == {"steps": 2}
    assert (
        "_name_or_path" not in (tmp_path / "out" / UNET).read_text()
    )  # where it was read is nobody's business
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # no temporary folder stays
