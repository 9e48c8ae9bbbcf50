"""`mlegfn finetune` on Diffusers folders: what it writes is one again."""

import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler
from helpers.commands import last_error, nll, run
from helpers.diffusers_folders import STEPS, UNET, WEIGHTS, stock_folder
from helpers.grey_images import grey_images
from helpers.image_stages import image_settings

from mlegfn.checkpoints import read
from reproduction import params


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder that diffusers wrote. Do not change it."""
    return stock_folder(tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return grey_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def tuned(stock, archive, tmp_path_factory):
    """The stock folder, fine-tuned for two steps in arm simple_tbc."""
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


@pytest.mark.parametrize("arm", ["simple", "reweighted"])
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


def test_what_the_command_line_leaves_open_is_the_first_of_each_list(stock, tuned, archive, tmp_path):
    """And what it names goes first; λ of the added bound is that of the consistency term whose length it has."""
    listed = image_settings().finetune.simple_tbc
    told = json.loads((tuned / "mlegfn.json").read_text())["finetune"]
    assert (told["arm"], told["likelihood_term"], told["term_over_chains"]) == (
        "simple_tbc",
        "simple",
        "consistency",
    )
    assert told["lambda"] == told["weight_of_term"] == listed.weight[0]
    assert (told["optimizer"]["lr"], told["optimizer"]["warmup"]) == (listed.lr[0], listed.warmup[0])
    options = ["--arm", "reweighted", "--weight", 0.5, "--lr", 0.25, "--batch", 3, "--steps", 1]
    out = tmp_path / "out"
    assert run("finetune", stock, "--out", out, "--images", archive, "--scale", "smoke", *options) == 0
    told = json.loads((out / "mlegfn.json").read_text())["finetune"]
    assert (told["lambda"], told["optimizer"]["lr"], told["batch"]) == (0.5, 0.25, 3)
    assert told["term_over_chains"] == "bound" and told["weight_of_term"] not in (0, 0.5)


def test_the_average_starts_at_the_weights(stock, archive, tmp_path, monkeypatch):
    """Adam's first step is ±lr, of which the average takes 1 − decay; a plain copy would take all of it."""
    settings = image_settings(finetune__simple__warmup=[0])
    monkeypatch.setattr(params.Params, "block", lambda *_: settings)
    options = ["--images", archive, "--scale", "smoke", "--steps", 1, "--lr", 0.01, "--arm", "simple"]
    assert run("finetune", stock, "--out", tmp_path / "x", *options) == 0
    before, after = read(stock).network, read(tmp_path / "x").network
    moved = max((p - q).abs().max().item() for p, q in zip(before.parameters(), after.parameters()))
    decay = settings.finetune.all.optimizer.ema_decay
    assert moved == pytest.approx((1 - decay) * 0.01, rel=0.01)


def test_a_fine_tune_that_diverges_writes_nothing(stock, archive, tmp_path, capsys):
    options = ["--images", archive, "--scale", "smoke", "--lr", 1e9]
    assert run("finetune", stock, "--out", tmp_path / "x", *options) == 2
    assert "not finite" in last_error(capsys) and not list(tmp_path.iterdir())


def test_a_chain_that_is_too_long_names_its_key(stock, archive, tmp_path, capsys, monkeypatch):
    """The folder has 6 steps, and the scale asks for a chain of 8."""
    settings = image_settings(finetune__all__consistency__chain="respaced")
    monkeypatch.setattr(params.Params, "block", lambda *_: settings)
    assert run("finetune", stock, "--out", tmp_path / "x", "--images", archive, "--scale", "smoke") == 2
    assert "params.yaml: images.smoke.finetune.all.consistency.chain_steps: 8 steps" in last_error(capsys)
