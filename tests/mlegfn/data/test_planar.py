"""The planar problems against their definitions and references, their densities, and MMD."""

import math
import time

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from mlegfn.data import planar_density
from mlegfn.data.mmd import BANDWIDTHS, mmd2_unbiased, mmd_floor
from mlegfn.data.planar import SAMPLERS, sample
from mlegfn.randomness import generator

ALL = list(SAMPLERS)


def points(problem, n=20_000, key=0):
    return sample(problem, n, generator(0, "test", problem, key))


@pytest.mark.parametrize("problem", ALL)
def test_samples_are_a_function_of_the_key(problem):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = points(problem, 100)
    torch.manual_seed(1)
    assert torch.equal(first, points(problem, 100)) and not torch.equal(first, points(problem, 100, key=1))
    torch.manual_seed(0)
    points(problem, 100)
    assert torch.equal(torch.get_rng_state(), before), "no global randomness is drawn"
    assert first.shape == (100, 2) and first.dtype == torch.float32
    assert sample(problem, 0, generator(0)).shape == (0, 2)


@pytest.mark.parametrize("problem", ALL)
def test_points_are_centred_and_of_the_usual_size(problem):
    x = points(problem)
    assert x.abs().max() < 5.5 and x.abs().max() > 2 and torch.isfinite(x).all()
    # moons: 2·(1/2, 1/4) + (−1, −0.2); swissroll: the averages of t·cos t and t·sin t over (3π/2, 9π/2), over 5.
    centre = {"moons": [0, 0.3], "swissroll": [2 / 5, 2 / (15 * math.pi)]}.get(problem, [0, 0])
    assert (x.mean(0) - torch.tensor(centre)).abs().max() < 5 * (x.std(0) / len(x) ** 0.5).max()


@pytest.mark.parametrize("problem", ALL)
def test_points_are_independent(problem):
    """Neighbours in the sample are not correlated, and halves have the same law."""
    x = points(problem)
    z = (x - x.mean(0)) / x.std(0)
    assert ((z[1:] * z[:-1]).mean(0).abs() < 4 / len(x) ** 0.5).all()
    assert all(ks_2samp(x[::2, k], x[1::2, k]).pvalue > 1e-4 for k in range(2))


def test_misuse():
    with pytest.raises(ValueError, match="unknown planar problem 'moon'; there are 2spirals"):
        sample("moon", 3, generator(0))
    with pytest.raises(ValueError, match="negative"):
        sample("moons", -1, generator(0))
    with pytest.raises(ValueError, match="unknown planar problem"):
        planar_density.log_density("moon", torch.zeros(1, 2))


# Each problem


def test_8gaussians_have_eight_equal_modes_of_the_right_width():
    x = points("8gaussians")
    angle = torch.arange(8) * math.pi / 4
    centres = 4 / 1.414 * torch.stack([angle.cos(), angle.sin()], 1)
    distance, nearest = torch.cdist(x, centres).min(1)
    assert ((nearest.bincount(minlength=8) / len(x) - 1 / 8).abs() < 0.01).all()
    # |x − centre|² = 2σ² on average, σ = 0.5/1.414.
    assert distance.square().mean() == pytest.approx(2 * (0.5 / 1.414) ** 2, rel=0.03)


def test_checkerboard_fills_exactly_its_squares():
    x = points("checkerboard")
    square = (x / 2).floor().long()
    assert square.min() == -2 and square.max() == 1
    assert (square.sum(1) % 2 == 0).all()
    counts = (square[:, 0] * 4 + square[:, 1]).unique(return_counts=True)[1]
    assert len(counts) == 8 and ((counts / len(x) - 1 / 8).abs() < 0.01).all()
    inside = x / 2 - square
    assert all(ks_2samp(inside[:, k], np.linspace(0, 1, 20_000)).pvalue > 1e-4 for k in range(2))


def test_2spirals_have_two_arms_that_mirror_each_other():
    x = points("2spirals")
    radius = x.norm(dim=1)
    assert radius.max() < 3 * math.pi / 3 + 0.7
    mirrored = points("2spirals", key=1) * -1
    assert all(ks_2samp(x[:, k], mirrored[:, k]).pvalue > 1e-4 for k in range(2))
    # On each arm the angle turns with the radius: unrolled by it, all points fall on two opposite directions.
    far = x[radius > 1.5]
    turned = torch.atan2(far[:, 1], -far[:, 0]) - 3 * far.norm(dim=1)
    assert torch.cos(2 * turned).mean() > 0.5


def test_pinwheel_has_five_arms():
    x = points("pinwheel")
    radius = x.norm(dim=1) / 2
    phase = torch.atan2(x[:, 1], x[:, 0]) + 0.25 * radius.exp()
    assert torch.cos(5 * phase).mean() > 0.8 and torch.cos(phase).mean().abs() < 0.03


def test_swissroll_is_one_roll():
    x = points("swissroll")
    radius = 5 * x.norm(dim=1)
    # Radius and angle agree up to the noise of 1 (before the division by 5).
    angle = torch.atan2(x[:, 1], x[:, 0])
    away = (radius - angle) / (2 * math.pi)
    assert 2 * math.pi * (away - away.round()).square().mean().sqrt() < 1.2
    assert radius.mean() == pytest.approx(3 * math.pi, abs=0.1)


REFERENCE = {
    "moons": lambda d, n: d.make_moons(n, noise=0.1, random_state=0)[0] * 2 + [-1, -0.2],
    "circles": lambda d, n: d.make_circles(n, factor=0.5, noise=0.08, random_state=0)[0] * 3,
    "swissroll": lambda d, n: d.make_swiss_roll(n, noise=1.0, random_state=0)[0][:, [0, 2]] / 5,
}


@pytest.mark.parametrize("problem", REFERENCE)
def test_against_scikit_learn(problem):
    import sklearn.datasets

    theirs = torch.from_numpy(REFERENCE[problem](sklearn.datasets, 3000))
    ours = points(problem, 3000)
    for direction in ([1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, -0.6]):
        d = torch.tensor(direction)
        assert ks_2samp(ours @ d, theirs.float() @ d).pvalue > 1e-4
    floor = mmd_floor(lambda n, k: points(problem, n, ("floor", k)), 3000, 5)
    assert mmd2_unbiased(ours, theirs) < floor["mean"] + 6 * floor["standard_deviation"]


def test_against_the_field_s_own_formulas():
    """2spirals, pinwheel, 8gaussians and checkerboard as FFJORD's script computes them in numpy."""
    rng, n = np.random.default_rng(0), 4000
    turn = np.sqrt(rng.random((n // 2, 1))) * 540 * (2 * np.pi) / 360
    arm = [f(turn) * turn * s + rng.random((n // 2, 1)) * 0.5 for f, s in ((np.cos, -1), (np.sin, 1))]
    spirals = np.vstack((np.hstack(arm), np.hstack([-a for a in arm]))) / 3
    spirals += rng.standard_normal(spirals.shape) * 0.1
    features = rng.standard_normal((n, 2)) * [0.3, 0.1] + [1, 0]
    angles = 2 * np.pi / 5 * np.repeat(np.arange(5), n // 5) + 0.25 * np.exp(features[:, 0])
    rotations = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)]).T.reshape(
        -1, 2, 2
    )
    pinwheel = 2 * np.einsum("ti,tij->tj", features, rotations)
    first = rng.random(n) * 4 - 2
    checkerboard = np.stack([first, rng.random(n) - rng.integers(0, 2, n) * 2 + np.floor(first) % 2], 1) * 2
    diagonal = 1 / np.sqrt(2)
    directions = [(1, 0), (-1, 0), (0, 1), (0, -1)] + [
        (a * diagonal, b * diagonal) for a in (1, -1) for b in (1, -1)
    ]
    gaussians = (rng.standard_normal((n, 2)) * 0.5 + 4 * np.array(directions)[rng.integers(0, 8, n)]) / 1.414
    reference = {
        "2spirals": spirals,
        "pinwheel": pinwheel,
        "checkerboard": checkerboard,
        "8gaussians": gaussians,
    }
    for problem, theirs in reference.items():
        ours = points(problem, n)
        for direction in ([1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, -0.6]):
            d = np.array(direction)
            assert ks_2samp(ours.numpy() @ d, theirs @ d).pvalue > 1e-4, problem
        assert mmd2_unbiased(ours, torch.from_numpy(theirs)) < 1e-3, problem


# Densities


@pytest.mark.parametrize("problem", ALL)
def test_entropy_is_minus_the_mean_log_density(problem):
    log_p = planar_density.log_density(problem, points(problem, 4_000))
    error = log_p.std() / len(log_p) ** 0.5
    assert abs(-log_p.mean() - planar_density.entropy(problem)) <= 4 * error + 1e-6
    assert torch.isfinite(log_p).all()


@pytest.mark.parametrize("problem", ALL)
def test_densities_have_mass_one_where_the_points_are(problem):
    """Counts in 6×6 boxes against the density's integral over them (its grid meets checkerboard's edges)."""
    x, n, edges = points(problem), 20, torch.linspace(-4.8, 4.8, 121, dtype=torch.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    density = (
        planar_density.log_density(problem, torch.cartesian_prod(middles, middles)).exp().reshape(120, 120)
    )
    mass = density.reshape(6, n, 6, n).sum((1, 3)) * 0.08**2
    counts, _ = torch.histogramdd(x, [6, 6], range=[-4.8, 4.8, -4.8, 4.8])
    error = (mass.clamp(min=1e-4) / len(x)).sqrt()
    assert ((counts / len(x) - mass).abs() < 5 * error + 1e-4).all()
    assert mass.sum() == pytest.approx(1, abs=1e-3)


def test_entropies_with_a_closed_form():
    assert planar_density.entropy("checkerboard") == math.log(32)
    # Eight Gaussians that hardly overlap: log 8 + log(2πeσ²), less a little.
    apart = math.log(8) + math.log(2 * math.pi * math.e * (0.5 / 1.414) ** 2)
    assert apart - 0.05 < planar_density.entropy("8gaussians") < apart


def test_far_away_points_have_finite_log_densities():
    far = torch.tensor([[20.0, 20.0], [-20.0, 3.0]])
    for problem in ("2spirals", "8gaussians", "circles", "moons", "swissroll"):
        assert (planar_density.log_density(problem, far) < -500).all()
        assert torch.isfinite(planar_density.log_density(problem, far)).all(), problem


# MMD


def brute_force(x, y, bandwidths):
    def k(a, b):
        square = sum((p - q) ** 2 for p, q in zip(a, b))
        return sum(math.exp(-square / (2 * s * s)) for s in bandwidths) / len(bandwidths)

    x, y = x.tolist(), y.tolist()
    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize("n, m, d", [(2, 3, 1), (65, 64, 2), (30, 150, 2), (20, 20, 5)])
def test_mmd_equals_the_double_sum(n, m, d):
    numbers = generator(0, "mmd", n, m, d)
    x, y = torch.randn(n, d, generator=numbers) + 100, torch.randn(m, d, generator=numbers) * 2 + 100.5
    assert mmd2_unbiased(x, y) == pytest.approx(brute_force(x, y, BANDWIDTHS), abs=1e-6)
    assert mmd2_unbiased(x, y, (3.0,)) == pytest.approx(brute_force(x, y, (3.0,)), abs=1e-6)
    assert mmd2_unbiased(x, y) == pytest.approx(mmd2_unbiased(y, x), abs=1e-7)


def test_mmd_is_unbiased_under_equal_laws_and_sees_a_shift():
    values = [mmd2_unbiased(points("moons", 200, (k, 0)), points("moons", 200, (k, 1))) for k in range(200)]
    values = torch.tensor(values, dtype=torch.float64)
    assert values.mean().abs() < 3.5 * values.std() / len(values) ** 0.5
    assert values.min() < 0 < values.max()
    shifted = mmd2_unbiased(points("moons", 1000), points("moons", 1000, 1) + torch.tensor([0.2, 0.0]))
    assert shifted > 5 * mmd_floor(lambda n, k: points("moons", n, (k, 2)), 1000, 10)["standard_deviation"]


def test_mmd_between_gaussians_has_the_known_value():
    """For N(0, 1), N(a, 1) and a kernel of width σ: MMD² = 2c(1 − e^{−a²/2(σ²+2)}) with c = σ/√(σ²+2)."""
    numbers, a, sigma = generator(0, "known"), 1.0, 0.5
    x, y = torch.randn(4000, 1, generator=numbers), torch.randn(4000, 1, generator=numbers) + a
    width = sigma**2 + 2
    exact = 2 * sigma / math.sqrt(width) * (1 - math.exp(-(a**2) / (2 * width)))
    assert mmd2_unbiased(x, y, (sigma,)) == pytest.approx(exact, rel=0.1)


def test_mmd_floor():
    floor = mmd_floor(lambda n, k: points("circles", n, k), 200, 20)
    assert set(floor) == {"mean", "standard_deviation", "quantile_95"}
    assert floor["quantile_95"] > floor["mean"] and floor["standard_deviation"] > 0
    assert floor == mmd_floor(lambda n, k: points("circles", n, k), 200, 20)
    with pytest.raises(ValueError, match="two repeats"):
        mmd_floor(lambda n, k: points("circles", n, k), 200, 1)


def test_mmd_of_2000_points_is_fast():
    x, y = points("moons", 2000), points("moons", 2000, 1)
    times = []
    for _ in range(5):
        start = time.process_time()
        mmd2_unbiased(x, y)
        times.append(time.process_time() - start)
    assert min(times) < 0.2 * max(1, torch.get_num_threads())


@pytest.mark.parametrize(
    "x, y, bandwidths, said",
    [
        (torch.zeros(1, 2), torch.zeros(3, 2), (1.0,), "at least two points"),
        (torch.zeros(3, 2), torch.zeros(3, 1), (1.0,), "must be"),
        (torch.zeros(3), torch.zeros(3), (1.0,), "must be"),
        (torch.zeros(3, 2), torch.zeros(3, 2), (), "positive"),
        (torch.zeros(3, 2), torch.zeros(3, 2), (0.0,), "positive"),
        (torch.full((3, 2), math.nan), torch.zeros(3, 2), (1.0,), "finite"),
    ],
)
def test_misuse_of_mmd(x, y, bandwidths, said):
    with pytest.raises(ValueError, match=said):
        mmd2_unbiased(x, y, bandwidths)
