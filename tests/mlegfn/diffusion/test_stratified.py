"""The stratified NLL: exact where nothing is left out, unbiased where much is, and honest about its error."""

import math

import pytest
import torch
from helpers.exact import Counting, exact_gaussian, linear_process

from mlegfn.diffusion.likelihood import bits_per_dim, bound_table, reduce_table
from mlegfn.diffusion.stratified import (
    Terms,
    allocation,
    design,
    join,
    reduce_terms,
    sampled_terms,
    sampling_variance,
    spread_guess,
    stratified_bits_per_dim,
)
from mlegfn.randomness import generator

T, N, DIMS = 8, 30, 4
IMAGES = torch.randint(0, 17, (N, 1, 2, 2), generator=generator(0, "images")) / 8 - 1


def pixel_model(variance=0.4):
    """Elementwise, so its float results do not depend on how states are batched; exact for Gaussian data."""
    return exact_gaussian(linear_process(T), variance, 17)


@pytest.fixture(scope="module")
def table():
    """(unclipped, clipped), [T+1, N] each: every term of the full sum."""
    return bound_table(pixel_model(), IMAGES)


def terms_of(plan, table):
    """The terms that ``plan`` asks for, looked up in the full table."""
    image = torch.cat([plan.image, torch.arange(N)])
    step = torch.cat([plan.step, torch.full((N,), T)])
    return Terms(image, step, *(values[step, image] for values in table))


def everywhere(plan):
    return plan.step * 1000 + plan.image


# ---------------------------------------------------------------- exact where nothing is left out


def test_at_full_allocation_it_is_the_full_sum():
    want, got = bits_per_dim(pixel_model(), IMAGES), stratified_bits_per_dim(pixel_model(), IMAGES, 0, T)
    for name in ("per_image", "per_image_clipped", "terms"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-12, atol=1e-12)
    assert got.evaluations == want.evaluations == T
    assert got.standard_error == got.standard_error_clipped == want.standard_error == 0


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (7, 1), (50, 3), (1000, 2)])
def test_its_terms_are_those_of_the_full_sum(table, batch, threads):
    plan = design(pixel_model().process, N, 4, seed=0)
    got, want = (
        sampled_terms(pixel_model(), IMAGES, plan, batch=batch, threads=threads),
        terms_of(plan, table),
    )
    assert all(torch.equal(getattr(got, name), getattr(want, name)) for name in Terms.__dataclass_fields__)


def test_the_full_sums_table_can_be_made_in_slices(table):
    parts = [bound_table(pixel_model(), IMAGES[a:b], first_index=a) for a, b in ((0, 7), (7, 30))]
    whole = reduce_table(*(torch.cat(p, dim=1) for p in zip(*parts)), DIMS)
    want = bits_per_dim(pixel_model(), IMAGES)
    assert torch.equal(whole.per_image, want.per_image) and torch.equal(whole.terms, want.terms)
    with pytest.raises(ValueError, match="alike"):
        reduce_table(table[0], table[1][:, 1:], DIMS)


# ---------------------------------------------------------------- unbiased, and honest about its error


def unbiased(estimates, truth):
    """Whether the mean of estimates [K, ...] of the truth is within 4.5 of its own standard errors."""
    return bool(
        ((estimates.mean(0) - truth).abs() < 1e-12 + 4.5 * estimates.std(0) / len(estimates) ** 0.5).all()
    )


def without_weights(plan, terms):
    """Forgetting N/n: each image's sampled terms, just added."""
    return torch.zeros(N, dtype=torch.float64).index_add(0, terms.image, terms.value) / (DIMS * math.log(2))


def horvitz_thompson(plan, terms):
    """[N]: Σ_t 1[i ∈ S_t] N/n_t L_{i,t}, written down anew."""
    weighted = terms.value * N / plan.counts[terms.step]
    return torch.zeros(N, dtype=torch.float64).index_add(0, terms.image, weighted) / (DIMS * math.log(2))


@pytest.fixture(scope="module", params=[3, 6])
def repeats(request, table):
    """Estimates for 400 seeds of the design at one noise: (counts, ours, unweighted [K, N], Horvitz–Thompson [K, N])."""
    found = []
    for seed in range(400):
        plan = design(linear_process(T), N, request.param, seed)
        terms = terms_of(plan, table)
        found.append(
            (reduce_terms(plan, terms, DIMS), without_weights(plan, terms), horvitz_thompson(plan, terms))
        )
    ours, *others = zip(*found)
    return plan.counts, ours, *map(torch.stack, others)


def test_the_mean_is_unbiased_for_the_full_sum(repeats, table):
    _, ours, unweighted, _ = repeats
    full = reduce_table(*table, DIMS)
    assert unbiased(torch.stack([r.per_image.mean() for r in ours]), full.per_image.mean())
    assert unbiased(torch.stack([r.per_image_clipped.mean() for r in ours]), full.per_image_clipped.mean())
    assert unbiased(torch.stack([r.terms for r in ours]), full.terms)
    assert not unbiased(unweighted.mean(1), full.per_image.mean())


def test_every_image_is_unbiased(repeats, table):
    _, ours, unweighted, weighted = repeats
    full = reduce_table(*table, DIMS).per_image
    assert unbiased(torch.stack([r.per_image for r in ours]), full) and unbiased(weighted, full)
    assert not unbiased(unweighted, full)


def test_the_mean_is_horvitz_and_thompsons(repeats):
    _, ours, _, weighted = repeats
    torch.testing.assert_close(torch.stack([r.per_image.mean() for r in ours]), weighted.mean(1))
    for r in ours[:3]:
        assert r.terms.sum().item() == pytest.approx(r.per_image.mean().item(), rel=1e-12)


def test_the_standard_error_is_the_observed_one(repeats, table):
    """The variance of 400 repeats has a relative standard error of √(2/399) = 7 %: ±21 % are three of them.
    Without the finite-population factor the error would be far outside."""
    counts, ours, *_ = repeats
    for mean, error in (("per_image", "standard_error"), ("per_image_clipped", "standard_error_clipped")):
        observed = torch.stack([getattr(r, mean).mean() for r in ours]).var().item()
        values = table[0 if mean == "per_image" else 1].var(1) / (DIMS * math.log(2)) ** 2
        exact = sampling_variance(counts, values, N)
        assert exact.item() == pytest.approx(observed, rel=0.21)
        assert unbiased(torch.tensor([getattr(r, error) ** 2 for r in ours], dtype=torch.float64), exact)
        assert (values / counts).sum().item() > 1.3 * observed  # an infinite population's


def test_the_spread_over_images_is_of_images_and_sampling(repeats, table):
    """E[spread²/N] = Var(L)/N + Σ_t (1 − n_t/N) s_t²/(n_t − 1), so an interval over images needs no second term;
    the spread of Horvitz and Thompson's own is far wider."""
    counts, ours, _, weighted = repeats
    bits = DIMS * math.log(2)
    variances, full = table[0].var(1) / bits**2, table[0].sum(0) / bits
    wanted = full.var() / N + ((1 - counts / N) * variances / (counts - 1)).sum()
    spread = torch.stack([r.per_image.var() / N for r in ours])
    assert unbiased(spread, wanted)
    if counts[:T].sum() <= 3 * N:  # where much is left out
        assert weighted.var(1).mean() / N > 1.2 * wanted


# ---------------------------------------------------------------- the design


def test_the_design_keeps_what_it_promises():
    process = linear_process(T)
    plan = design(process, N, 4, seed=3)
    assert abs(len(plan.image) - 4 * N) <= T / 2 and len(everywhere(plan).unique()) == len(plan.image)
    assert torch.equal(plan.counts[:T], plan.step.bincount(minlength=T)) and plan.counts[:T].min() >= 2
    assert plan.counts[0] == plan.counts[T] == N and plan.counts.max() == N
    assert torch.equal(everywhere(plan), everywhere(design(process, N, 4, seed=3)))
    assert not torch.equal(everywhere(plan), everywhere(design(process, N, 4, seed=4)))
    assert allocation(linear_process(1000), 10000, 3)[0] == 10000  # the decoder's, which the guess gives less
    drawn = [set(plan.image[plan.step == s].tolist()) for s in range(1, T)]
    assert not all(a <= b or b <= a for a in drawn for b in drawn)  # not the first n of *one* permutation


def test_two_models_are_evaluated_at_the_same_states():
    seen = {}
    for variance in (0.4, 0.1):
        model, states = pixel_model(variance), []
        network = model.network
        model.network = lambda x, time, network=network, states=states: (
            states.append((x, time)),
            network(x, time),
        )[1]
        stratified_bits_per_dim(model, IMAGES, 0, 4, batch=64)
        seen[variance] = [torch.cat(part) for part in zip(*states)]
    assert all(torch.equal(a, b) for a, b in zip(*seen.values()))


def test_it_evaluates_what_it_says():
    model = pixel_model()
    model.network = Counting(model.network)
    measured = stratified_bits_per_dim(model, IMAGES, 0, 4, batch=64)
    assert model.network.forward == measured.evaluations * N and model.network.largest == 64
    assert measured.evaluations == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("images", [1000, 10000])
def test_the_guess_of_the_spreads_is_good_at_a_thousand_steps(images):
    """On the exact model of Gaussian data, where the spreads over images are known by evaluating all of them."""
    model = exact_gaussian(linear_process(1000), 0.3)
    x0 = 0.3**0.5 * torch.randn(100, 1, 4, 4, generator=generator(0, "x0"), dtype=torch.float64)
    variances = bound_table(model, x0, batch=20000)[0][:1000].var(1)
    ours = sampling_variance(allocation(model.process, images, 100), variances, images)
    even = sampling_variance(torch.full((1000,), images // 10), variances, images)
    assert ours < even / 10
    assert (spread_guess(model.process) > 0).all()


# ---------------------------------------------------------------- in slices


def test_slices_put_together_are_the_whole():
    model, plan = pixel_model(), design(pixel_model().process, N, 4)
    parts = [sampled_terms(model, IMAGES[a:b], plan, first_index=a) for a, b in ((20, 30), (0, 1), (1, 20))]
    whole, want = reduce_terms(plan, join(parts), DIMS), stratified_bits_per_dim(model, IMAGES, 0, 4)
    assert torch.equal(whole.per_image, want.per_image) and torch.equal(whole.terms, want.terms)
    assert whole.standard_error == want.standard_error > 0
    for wrong in (parts[:2], [*parts, parts[0]], [parts[0]] * 3):
        with pytest.raises(ValueError, match="slices"):
            reduce_terms(plan, join(wrong), DIMS)


# ---------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"evaluations": 0}, "evaluations 1"),
        ({"evaluations": T + 1}, "1 … T = 8, got"),
        ({"evaluations": 1}, "ask for 2 or more"),
        ({"x0": IMAGES[:0]}, "needs an image"),
        ({"x0": IMAGES * math.nan}, "not finite"),
        ({"x0": IMAGES + 0.05}, "17 levels"),
        ({"batch": 0}, "batch of at least 1"),
    ],
)
def test_bad_arguments_say_what_is_wrong(change, said):
    with pytest.raises(ValueError, match=said):
        stratified_bits_per_dim(**({"model": pixel_model(), "x0": IMAGES, "evaluations": 4} | change))


def test_a_design_of_something_else_is_refused():
    plan = design(pixel_model().process, N, 4)
    with pytest.raises(ValueError, match="30…31"):
        sampled_terms(pixel_model(), IMAGES[:2], plan, first_index=30)
    with pytest.raises(ValueError, match="50 steps and the model 8"):
        sampled_terms(pixel_model(), IMAGES, design(linear_process(50), N, 50))
