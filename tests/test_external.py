"""`mlegfn nll`, `sample` and `finetune` on Diffusers folders: against diffusers' own scheduler, and against ours."""

import io
import math
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, PNDMScheduler
from external_folders import STEPS, UNET, WEIGHTS, grey_images, last_error, nll, run, save, stock_folder, unet
from PIL import Image
from scipy.stats import norm

from mlegfn.config import load
from mlegfn.data import digits, scale_to_unit
from mlegfn.diffusion.likelihood import bits_per_dim, epsilon_errors, image_noise
from mlegfn.external import read
from mlegfn.external.reader import epsilon_function
from mlegfn.external.scheduler import read_scheduler
from mlegfn.randomness import generator
from mlegfn.training.checkpoint import initial_network, read_model, write_checkpoint
from mlegfn.training.state import new_state


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder that diffusers wrote. Do not change it."""
    return stock_folder(tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return grey_images(tmp_path_factory.mktemp("images"))


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


# ---------------------------------------------------------------- nll


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
    found = nll(folder, tmp_path / "out.json", "--images", "digits", "--limit", 1, "--estimator", "full")
    x0 = scale_to_unit(digits.load().test_images[:1], 17)
    first = DDPMScheduler(**STEPS)._get_variance(1, variance_type="fixed_small").item()
    plain, clipped = by_diffusers(folder, x0, 17, first, monkeypatch)
    # float32 tables and states there: 1 − ᾱ_t, at its smallest 0.05, keeps five digits.
    assert found["bits_per_dim"] == pytest.approx(plain, rel=1e-4)
    assert found["bits_per_dim_clipped"] == pytest.approx(clipped, rel=1e-4)
    assert abs(plain - clipped) > 0.1  # or the test would not tell them apart
    assert found["standard_error"] is None and found["network_evaluations_per_image"] == 6


@pytest.mark.parametrize("variance", ["analytic", "learned", "large"])
def test_our_own_checkpoint_gives_the_pipelines_number(tmp_path, variance):
    """Exactly: one seed, one noise, one decoder, and the recorded variances rather than the scheduler's."""
    scale = load("params.yaml").scale("smoke")
    scale = scale.model_copy(update={"diffusion": scale.diffusion.model_copy(update={"variance": variance})})
    images = digits.load()
    state = new_state(initial_network(scale, images.record, 0), scale.pretrain.optimizer)
    errors = [0.3 + 0.1 * t for t in range(8)] if variance == "analytic" else None
    write_checkpoint(tmp_path / "ours", state, scale, images.record, errors)
    x0 = scale_to_unit(images.test_images[:5], 17)
    expected = bits_per_dim(read_model(tmp_path / "ours", scale), x0, seed=3, batch=20)
    arguments = ["--images", "digits", "--limit", 5, "--seed", 3, "--batch", 20]
    found = nll(tmp_path / "ours", tmp_path / "out.json", *arguments)
    assert found["per_image"] == expected.per_image.tolist()
    assert found["per_image_clipped"] == expected.per_image_clipped.tolist()
    assert found["bits_per_dim"] == expected.per_image.mean().item()
    assert found["terms"] == pytest.approx(expected.terms.tolist(), rel=1e-12)
    assert (found["variance"], found["variance_source"]) == (variance, "mlegfn.json")


def test_the_line_says_how_it_was_measured(stock, archive, capsys):
    arguments = ["nll", stock, "--images", archive, "--variance", "small", "--decoder", "tanh"]
    assert run(*arguments) == 0
    (line,) = capsys.readouterr().out.splitlines()
    for part in ("±", "clipped", "3 test images of grey", "T = 6", "6 evaluations", "full"):
        assert part in line
    assert "variance small by --variance, tanh decoder of 256 levels" in line


def test_long_chains_are_sampled_short_ones_summed(tmp_path, monkeypatch, capsys):
    """The default estimator; and the two agree within five standard errors of the sampling alone."""
    folder = save(tmp_path / "long", DDPMScheduler(num_train_timesteps=200, beta_end=0.1))
    options = ["--images", "digits", "--limit", 24]
    sampled = nll(folder, tmp_path / "a.json", *options, "--evaluations", 40)
    summed = nll(folder, tmp_path / "b.json", *options, "--estimator", "full")
    assert (sampled["estimator"], summed["estimator"]) == ("stratified", "full")
    assert sampled["network_evaluations_per_image"] <= 40 and summed["estimator_standard_error"] == 0
    error = sampled["estimator_standard_error"]
    assert 0 < error < sampled["standard_error"]
    assert abs(sampled["bits_per_dim"] - summed["bits_per_dim"]) < 5 * error
    few = nll(folder, tmp_path / "c.json", "--images", "digits", "--limit", 2, "--evaluations", 40)
    assert few["estimator"] == "full"  # too few images to sample from
    capsys.readouterr()
    assert run("nll", folder, *options, "--evaluations", 3, "--estimator", "stratified") == 2
    assert "--evaluations 3" in last_error(capsys)


def test_analytic_variances_are_the_best_for_the_images_they_are_estimated_on(stock, tmp_path):
    """The mean bound over training images: below that of β_t and β̃_t, which an untrained network makes
    far from optimal. And the errors are ``epsilon_errors``, in groups of images."""
    options = ["--images", "digits", "--limit", 40]
    found = {
        kind: nll(stock, tmp_path / f"{kind}.json", *options, "--variance", kind)
        for kind in ("analytic", "large", "small")
    }
    best = sum(found["analytic"]["terms"][1:])
    assert best < 0.9 * min(sum(found[kind]["terms"][1:]) for kind in ("large", "small"))
    few = nll(stock, tmp_path / "few.json", *options, "--variance", "analytic", "--variance-images", 20)
    x0 = scale_to_unit(digits.load().train_images[:20], 17)
    whole = epsilon_errors(read(stock).model(17), x0, 0, 512).mean(1)
    assert few["epsilon_errors"] == pytest.approx(whole.tolist(), rel=1e-6)


# ---------------------------------------------------------------- sample


def test_samples_are_a_function_of_the_seed(stock, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / f"{name}.png"
        more = ["--npz", tmp_path / f"{name}.npz", "--count", 5, "--seed", seed]
        assert run("sample", stock, "--out", out, *more) == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    page = np.asarray(Image.open(io.BytesIO(a)))
    assert page.shape == (2 * 8 + 2, 3 * 8 + 2 * 2)  # five on two rows of three, two pixels apart
    samples = np.load(tmp_path / "a.npz")["arr_0"]
    assert samples.shape == (5, 8, 8, 1) and samples.dtype == np.uint8
    assert np.array_equal(page[10:, 10:18], samples[4, :, :, 0]) and (page[10:, 20:] == 255).all()


@pytest.mark.parametrize("clip", [True, False])
def test_sampling_is_diffusers_on_equal_noise(tmp_path, monkeypatch, clip):
    folder = save(tmp_path / "x", DDPMScheduler(**STEPS, variance_type="fixed_large"), unet(seed=1))
    arguments = [] if clip else ["--no-clip"]
    out, arrays = tmp_path / "s.png", tmp_path / "s.npz"
    assert run("sample", folder, "--out", out, "--npz", arrays, "--count", 3, *arguments) == 0
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
    theirs = pipeline(batch_size=3, num_inference_steps=6, output_type="np").images * 255
    ours = np.load(arrays)["arr_0"]
    assert np.abs(ours - theirs).max() < 0.51  # half a level is what rounding takes
    assert len(np.unique(ours)) > 20


# ---------------------------------------------------------------- finetune


@pytest.fixture(scope="module")
def tuned(stock, archive, tmp_path_factory):
    """The stock folder, fine-tuned for two steps in arm tbc."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    assert run("finetune", stock, "--out", out, "--images", archive, "--scale", "smoke", "--steps", 2) == 0
    return out


def test_a_fine_tune_is_a_diffusers_folder_again(stock, tuned, archive, tmp_path):
    before, after = DDPMPipeline.from_pretrained(stock), DDPMPipeline.from_pretrained(tuned)
    changed = [
        not torch.equal(p, q) for p, q in zip(before.unet.parameters(), after.unet.parameters(), strict=True)
    ]
    assert all(changed[:4]) and sum(changed) > 0.9 * len(changed)
    scheduler = "scheduler/scheduler_config.json"
    assert (stock / scheduler).read_bytes() == (tuned / scheduler).read_bytes()
    assert isinstance(after.scheduler, DDPMScheduler)
    assert nll(tuned, tmp_path / "out.json", "--images", archive)["variance_source"] == "mlegfn.json"
    assert "_name_or_path" not in (tuned / UNET).read_text()  # where it was read is nobody's business
    assert not [p for p in tuned.parent.iterdir() if p != tuned]  # no temporary folder stays


@pytest.mark.parametrize("arm", ["simple", "vlb"])
def test_a_fine_tune_of_a_fine_tune_of_ddim(tuned, archive, tmp_path, arm, capsys):
    """Another scheduler class is kept; `analytic` variances are estimated anew and recorded; two runs agree."""
    ddim = shutil.copytree(tuned, tmp_path / "ddim")
    DDIMScheduler(**STEPS).save_pretrained(ddim / "scheduler")
    weights = []
    for name in ("one", "two"):
        out = tmp_path / name
        options = [
            "--images",
            archive,
            "--scale",
            "smoke",
            "--steps",
            2,
            "--arm",
            arm,
            "--variance",
            "analytic",
        ]
        assert run("finetune", ddim, "--out", out, *options, "--evaluate", 2) == 0
        weights.append((out / WEIGHTS).read_bytes())
        shown = capsys.readouterr().out.splitlines()
        assert shown[0].startswith("before: ") and shown[1].startswith("after: ")
    assert weights[0] == weights[1]
    assert isinstance(DDPMPipeline.from_pretrained(out).scheduler, DDIMScheduler)
    again = read(out)
    assert again.variance == "analytic" and len(again.errors) == 6
    assert (
        f"{nll(out, tmp_path / 'o.json', '--images', archive, '--limit', 2)['bits_per_dim']:.4f}" in shown[1]
    )


def test_the_average_starts_at_the_weights(stock, archive, tmp_path):
    """Adam's first step is ±lr, of which the average takes 1 − 0.97; a plain copy would take all of it."""
    options = ["--images", archive, "--scale", "smoke", "--steps", 1, "--lr", 0.01, "--arm", "simple"]
    assert run("finetune", stock, "--out", tmp_path / "x", *options) == 0
    before, after = read(stock).network, read(tmp_path / "x").network
    moved = max((p - q).abs().max().item() for p, q in zip(before.parameters(), after.parameters()))
    decay = load("params.yaml").scale("smoke").finetune.optimizer.ema_decay
    assert moved == pytest.approx((1 - decay) * 0.01, rel=0.01)


def test_a_fine_tune_that_diverges_writes_nothing(stock, archive, tmp_path, capsys):
    options = ["--images", archive, "--scale", "smoke", "--lr", 1e9]
    assert run("finetune", stock, "--out", tmp_path / "x", *options) == 2
    assert "not finite" in last_error(capsys) and not list(tmp_path.iterdir())
