"""The stage ``nll`` uses the estimator of its settings, and refuses what that cannot do before it evaluates."""

from types import SimpleNamespace

import pytest
import torch
from helpers.exact import exact_gaussian, linear_process
from helpers.image_stages import image_settings

from mlegfn.diffusion.likelihood import bits_per_dim
from mlegfn.diffusion.stratified import stratified_bits_per_dim
from mlegfn.errors import UserError
from mlegfn.randomness import generator
from reproduction.images import measuring

T, N = 8, 30  # T as in the scale smoke
IMAGES = torch.randint(0, 17, (N, 1, 2, 2), generator=generator(0, "images")) / 8 - 1


def stage_of(estimator, evaluations=4):
    settings = image_settings(nll__estimator=estimator, nll__evaluations=evaluations)
    return SimpleNamespace(scale="smoke", settings=settings)


@pytest.mark.parametrize("estimator", ["full", "stratified"])
def test_the_stage_uses_the_estimator_of_its_settings(estimator):
    model, stage = exact_gaussian(linear_process(T), 0.4, 17), stage_of(estimator)
    measuring.check(stage, N)
    measured = measuring.measure(model, IMAGES, stage.settings.nll, "NLL")
    if estimator == "full":
        want = bits_per_dim(model, IMAGES)
        assert measured.evaluations == T and measuring.summary(measured)["estimator_standard_error"] == 0
    else:
        want = stratified_bits_per_dim(model, IMAGES, 0, 4)
        assert 0 < measured.standard_error == measuring.summary(measured)["estimator_standard_error"]
    assert measuring.summary(measured)["per_image"] == want.per_image.tolist()


def test_too_few_evaluations_name_their_key():
    with pytest.raises(UserError, match=r"^params.yaml: images.smoke.nll.evaluations: ") as error:
        measuring.check(stage_of("stratified", 2), 4)
    assert "\n" not in str(error.value)
