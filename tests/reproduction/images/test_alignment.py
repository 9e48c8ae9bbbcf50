"""The stage ``alignment``: unbiased products of gradients, two ways to the bound's gradient, and what it keeps."""

import pytest
import torch
from helpers.image_stages import Counted, image_settings, prepare, run_stage

from mlegfn.artifacts import read_json
from mlegfn.diffusion.model import DenoisingModel
from mlegfn.diffusion.process import GaussianDiffusion
from mlegfn.diffusion.schedules import betas
from mlegfn.diffusion.variances import fixed_log_variance
from mlegfn.errors import UserError
from mlegfn.objectives.bounds import elbo
from mlegfn.randomness import generator
from mlegfn.training.joint import joint_log_weights, mean_product
from reproduction.images import alignment
from reproduction.images.report.alignment import frame, plus_minus

OWN = {
    "states": 8,
    "bound_batches": 2,
    "images": 1,
    "trajectories": 2,
    "batches": 3,
    "variances": ["small", "analytic"],
}


def test_squared_lengths_of_means_are_unbiased():
    """Of rows whose mean is (3, 4, 0, …) the squared length is 25; that of their mean is too large by P/G."""
    draw = generator(0, "rows")
    mean = torch.zeros(40, dtype=torch.float64)
    mean[:2] = torch.tensor([3.0, 4.0])
    tables = [mean + torch.randn(6, 40, generator=draw, dtype=torch.float64) for _ in range(400)]
    unbiased = torch.tensor([mean_product(table, table) for table in tables])
    plain = torch.tensor([table.mean(0).pow(2).sum() for table in tables])
    error = unbiased.std() / 20
    assert abs(unbiased.mean() - 25) < 4 * error
    assert abs(plain.mean() - 25 - 40 / 6) < 4 * error  # what the test would see of the plain estimate


def test_the_bound_of_independent_states_is_that_of_joint_trajectories():
    """N is a sum over t, so that the mean over independent (x_t, t) times T is −E[log w] but for L_T."""
    process = GaussianDiffusion(betas(5, "linear", 0.05, 0.6))
    shift = torch.tensor(0.3, requires_grad=True)
    model = DenoisingModel(
        lambda x, time: shift * x + 0.1 * time[:, None, None, None],
        process,
        fixed_log_variance(process, "small"),
        5,
    )
    images = torch.randint(0, 5, (4, 1, 2, 2), generator=generator(0, "images")) / 2 - 1.0
    alone, joint = [], []
    for number in range(60):
        of_states = alignment.bound(model, images, 64, 0, (1, number))
        alone += torch.autograd.grad(of_states, shift)
        log_w = joint_log_weights(model, images, 4, generator(0, "joint", number))
        joint += torch.autograd.grad(-elbo(log_w).mean(), shift)
    alone, joint = torch.stack(alone), torch.stack(joint)
    error = (alone.var() / 60 + joint.var() / 60).sqrt()
    assert abs(alone.mean() - joint.mean()) < 4 * error < 0.2 * joint.mean().abs()


def test_a_finished_checkpoint_is_kept_and_all_kinds_are_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(prepare(tmp_path))
    settings = image_settings(
        alignment=OWN, pretrain__seeds=[0], pretrain__checkpoints=[4, 8], trajectories__pretrain_seed=0
    )
    for module in ("images.fetch", "images.pretrain", "images.alignment"):
        run_stage(module, settings)
    names = Counted(monkeypatch).names
    run_stage("images.alignment", settings)
    assert names == []
    records = [read_json(f"results/smoke/images/metrics/alignment/{step}-0.json") for step in (4, 8)]
    assert [set(record["variances"]) for record in records] == [{"small", "analytic"}] * 2
    assert records[0]["variances"]["small"] != records[0]["variances"]["analytic"]
    run_stage("images.alignment", image_settings(alignment={**OWN, "states": 9}, pretrain__seeds=[0]))
    assert len(names) == 2


def test_variances_must_fit_the_network():
    with pytest.raises(
        UserError, match=r"alignment.variances: has 'learned', but the network is trained with"
    ):
        image_settings(alignment={**OWN, "variances": ["learned"]})


def record(seed, both, variance=4.0):
    products = {"bound_squared": 9.0, "bound_variance": both, "variance_squared": variance}
    return {"timesteps": 5, "checkpoint": 4, "seed": seed, "variances": {"large": products}}


def test_a_row_has_the_cosine_of_the_means_and_an_interval_over_seeds():
    equal = frame([record(0, -3.0), record(1, -3.0)]).iloc[0]
    assert (equal["along"], equal["cosine"], equal["cosine_half"]) == (-1.0, -0.5, 0)
    spread = frame([record(0, -5.0), record(1, 1.0)]).iloc[0]
    # Student's interval of two values: t = 12.7, s/√2 = half their distance; both are linear in ∇N·∇V.
    assert spread["along"] == pytest.approx(-2 / 3) and spread["along_half"] == pytest.approx(
        12.7062, rel=1e-4
    )
    assert plus_minus(spread, "along", 1) == "−0.7 ± 12.7"


def test_a_length_that_cannot_be_told_from_zero_leaves_no_cosine():
    for second in (-4.0, 2.0, 3.9):
        row = frame([record(0, 1.0, 0.1), record(1, 1.0, second)]).iloc[0]
        assert plus_minus(row, "cosine", 2) == "–" and plus_minus(row, "along", 1) == "+0.3 ± 0.0"
    assert plus_minus(frame([record(0, 1.0)]).iloc[0], "along", 1) == "–"
