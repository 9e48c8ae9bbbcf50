"""`mlegfn nll` on Diffusers folders: its numbers are those of the library, and its line says how they were measured."""

import pytest
from diffusers import DDPMScheduler
from helpers.commands import last_error, nll, run
from helpers.diffusers_folders import save, stock_folder
from helpers.grey_images import grey_images
from helpers.image_stages import image_settings

from mlegfn.checkpoints import read
from mlegfn.data import digits, scale_to_unit
from mlegfn.diffusion.likelihood import bits_per_dim, epsilon_errors
from mlegfn.training.checkpoint import initial_network, read_model, write_checkpoint
from mlegfn.training.state import new_state


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder that diffusers wrote. Do not change it."""
    return stock_folder(tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return grey_images(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("variance", ["analytic", "learned", "large"])
def test_our_own_checkpoint_gives_the_pipelines_number(tmp_path, variance):
    """Exactly: one seed, one noise, one decoder, and the recorded variances rather than the scheduler's."""
    settings = image_settings(diffusion__variance=variance)
    images = digits.load()
    state = new_state(initial_network(settings, images.record, 0), settings.pretrain.optimizer)
    errors = [0.3 + 0.1 * t for t in range(8)] if variance == "analytic" else None
    write_checkpoint(tmp_path / "ours", state, settings, images.record, errors)
    x0 = scale_to_unit(images.test_images[:5], 17)
    expected = bits_per_dim(read_model(tmp_path / "ours", settings), x0, seed=3, batch=20)
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
