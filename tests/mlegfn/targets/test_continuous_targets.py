"""Continuous targets, the policy of their coordinates, and the divergence between them, against other integrals."""

import math

import pytest
import torch
from scipy import integrate, stats

from mlegfn.gflownet.coordinates import CoordinatePolicy
from mlegfn.gflownet.jensen_shannon import (
    bin_probabilities,
    jensen_shannon,
    of_densities,
    of_samples,
    sampling_floor,
)
from mlegfn.randomness import generator, seed_layers
from mlegfn.targets.banana import Banana
from mlegfn.targets.mixture import GaussianMixture

TARGETS = {
    "mixture": GaussianMixture(),
    "mixture, 2 in a line": GaussianMixture(1, side=2, spacing=3.0),
    "mixture, 3-D": GaussianMixture(3, side=2, spacing=2.0, variance=0.5),
    "banana": Banana(),
    "banana, far and sharp": Banana(y=-1.5, noise=0.2),
}
PLANAR = ("mixture", "banana")


@pytest.fixture(params=TARGETS.values(), ids=TARGETS.keys())
def target(request):
    return request.param


@pytest.fixture(params=PLANAR)
def planar(request):
    return TARGETS[request.param]


def grid(target, cells):
    """(midpoints of the box's cells [M, D], the volume of one)."""
    low, high = target.box
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    axes = [a + (b - a) * centres for a, b in zip(low, high)]
    return torch.cartesian_prod(*axes).view(-1, len(axes)), ((high - low) / cells).prod()


def policy(dimensions=2, seed=0, **options):
    """In float64, with a head that is no longer near its start, so that every factor depends on what was."""
    with torch.random.fork_rng():
        seed_layers(seed, "test", "policy")
        made = CoordinatePolicy(
            dimensions, dtype=torch.float64, **{"components": 4, "spread": 2.0, **options}
        )
    with torch.no_grad():
        made.head.weight.mul_(4)
    return made


def on_grid(log_prob):
    """A density of points as one of axes."""
    return lambda axes: log_prob(torch.cartesian_prod(*axes).view(-1, len(axes))).view([len(a) for a in axes])


# Targets


def test_a_density_integrates_to_1_within_its_box(target):
    """Without what the box leaves out, which is positive and said to be below 1e-6; the rule's own error, some
    1e-13 for Gaussians of more than three cells to a standard deviation, does not show."""
    points, volume = grid(target, 160 if target.dimensions < 3 else 60)
    missing = 1 - (target.log_prob(points).exp().sum() * volume).item()
    assert -1e-9 < missing < 1e-6


def test_log_z_is_the_reward_s_integral_by_another_rule():
    """Adaptive quadrature, asked for 1e-11, over all of the plane that matters."""
    for banana in (Banana(), Banana(y=-1.5, noise=0.2), Banana(y=4.0, noise=1.0)):

        def inner(second, banana=banana):
            """∫ R dx_1, as Gaussians multiply: the constant of the product, R at its peak times √(2πv)."""
            variance = banana.noise**2 / (1 + banana.noise**2)
            first = (banana.y - second**2) / (1 + banana.noise**2)
            peak = banana.log_reward(torch.tensor([[first, second]], dtype=torch.float64))
            return peak.exp().item() * math.sqrt(2 * math.pi * variance)

        whole, _ = integrate.quad(inner, -8, 8, epsabs=0, epsrel=1e-11, limit=400, points=[-2.0, 0.0, 2.0])
        assert banana.log_z.item() == pytest.approx(math.log(whole), abs=1e-10)
    assert GaussianMixture(2, side=4).log_z.item() == pytest.approx(math.log(16), abs=1e-15)


def test_rewards_are_those_of_scipy_s_densities(target):
    x = 2 * torch.randn(50, target.dimensions, generator=generator(0, "points"), dtype=torch.float64)
    if isinstance(target, Banana):
        first, second = x.T.numpy()
        prior = stats.norm.logpdf(first) + stats.norm.logpdf(second)
        wanted = prior + stats.norm.logpdf(target.y, first + second**2, target.noise)
    else:
        normal = stats.multivariate_normal(cov=target.variance)
        if target.dimensions > 1:
            normal = stats.multivariate_normal([0] * target.dimensions, target.variance)
        wanted = sum(torch.from_numpy(normal.pdf(x - c)).view(-1) for c in target.centres).log()
    torch.testing.assert_close(target.log_reward(x), torch.as_tensor(wanted), rtol=1e-12, atol=1e-11)
    assert target.log_reward(x.float()).dtype == torch.float64


def chi_square(x, target, bins):
    """p-value of samples x [N, D] against the target's probabilities of the bins that expect at least 5."""
    low, high = target.box
    counts = torch.histogramdd(
        x, [bins] * target.dimensions, range=torch.stack([low, high], 1).flatten().tolist()
    )
    expected = bin_probabilities(target, bins)[:-1] * len(x)
    seen, enough = counts.hist.flatten(), expected >= 5
    rest = [torch.stack([len(x) - v[enough].sum()]) for v in (seen, expected)]  # of all others, one bin more
    seen, expected = (torch.cat([v[enough], r]) for v, r in zip((seen, expected), rest))
    return stats.chisquare(seen, expected).pvalue


def test_the_mixture_s_samples_have_its_density():
    """A p-value below 1e-4 is one draw in 10,000, and the draw is fixed; wrong ones fall far below."""
    target = GaussianMixture()
    x = target.sample(20_000, generator(0, "sample"))
    assert chi_square(x, target, 40) > 1e-4
    centre = target.centres[(x[:, None] - target.centres).square().sum(2).argmin(1)]
    assert chi_square(centre + 1.06 * (x - centre), target, 40) < 1e-4, "6 % too wide"
    skewed = torch.where((x[:, :1] > 2.5) & (torch.arange(len(x)) % 5 == 0)[:, None], -x, x)
    assert chi_square(skewed, target, 40) < 1e-4, "three modes that hold a fifth less"


def standard_error(values):
    """Of the mean of values [chains, N]: by the effective sample size of the chains together."""
    from pyro.ops.stats import effective_sample_size

    return (values.std() / effective_sample_size(values).sqrt()).item()


@pytest.fixture(scope="module")
def nuts():
    return TARGETS["banana"].nuts(500, seed=0, chains=2, warmup=200)


def moments(target, x):
    """{name: values [chains, N]}: of x_2, and of x_1 in standard deviations from its mean given x_2, which mixes
    an order of magnitude faster than the chain runs along the banana."""
    first, second = x.unbind(-1)
    variance = 1 + target.noise**2
    z = (first - (target.y - second.square()) / variance) * math.sqrt(variance) / target.noise
    return {
        "x_1": first,
        "x_1²": first**2,
        "x_2": second,
        "x_2²": second**2,
        "z": z,
        "z²": z**2,
        "z x_2²": z * second**2,
    }


def deviations(target, x):
    """{name: standard errors from the posterior's moment, that one by quadrature}."""
    points, volume = grid(target, 300)
    weight = target.log_prob(points).exp() * volume
    exact = {name: (v * weight).sum().item() for name, v in moments(target, points).items()}
    return {
        name: (v.mean().item() - exact[name]) / standard_error(v) for name, v in moments(target, x).items()
    }


def test_nuts_has_the_moments_of_the_posterior(nuts):
    """Seven moments, none beyond 4 standard errors (1 run in 2,000 by chance, and this run is fixed)."""
    assert nuts.shape == (2, 500, 2) and nuts.dtype == torch.float64
    found = deviations(TARGETS["banana"], nuts)
    assert max(map(abs, found.values())) < 4, found


@pytest.mark.parametrize("wrong", [Banana(y=1.2), Banana(y=0.8), Banana(noise=0.4), Banana(noise=0.2)])
def test_nuts_of_one_posterior_is_not_that_of_another(nuts, wrong):
    assert max(map(abs, deviations(wrong, nuts).values())) > 4


def test_nuts_is_a_function_of_its_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (Banana().nuts(5, seed, chains=1, warmup=5) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


# Policy


def test_a_policy_s_density_integrates_to_1():
    """Over ±40, with some 10 cells to the narrowest component: the rule's error is below rounding."""
    for dimensions, cells in ((1, 800), (2, 800)):
        made = policy(dimensions)
        axes = [(torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 80 - 40] * dimensions
        mass = made.on_grid(axes).exp().sum().item() * (80 / cells) ** dimensions
        assert mass == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_on_a_grid_the_density_is_the_one_of_points(dimensions):
    made = policy(dimensions)
    axes = [
        torch.randn(n, generator=generator(n, "axis"), dtype=torch.float64) for n in (5, 4, 3)[:dimensions]
    ]
    points = torch.cartesian_prod(*axes).view(-1, dimensions)
    torch.testing.assert_close(
        made.on_grid(axes).flatten(), made.log_prob(points).sum(1), rtol=1e-12, atol=1e-12
    )


def test_a_policy_s_samples_have_its_density():
    """χ² as for the mixture, with the policy in the target's place."""
    made = policy()
    x = made.sample(20_000, generator(0, "policy"))

    class Density:
        dimensions = 2
        box = (torch.full((2,), -12.0, dtype=torch.float64), torch.full((2,), 12.0, dtype=torch.float64))

        @staticmethod
        @torch.no_grad()
        def log_prob(points):
            return made.log_prob(points).sum(1)

    assert chi_square(x, Density, 40) > 1e-4
    assert chi_square(x[:, [1, 0]], Density, 40) < 1e-4, "the coordinates are not exchangeable"
    mixed = torch.stack([x[:, 0], x[:, 1].roll(1)], 1)
    assert chi_square(mixed, Density, 40) < 1e-4, "the second depends on the first"


def test_steps_see_the_coordinates_before_and_no_others():
    made = policy(3)
    x = torch.randn(1, 3, generator=generator(0, "x"), dtype=torch.float64, requires_grad=True)
    for d in range(3):
        for values, seen in ((made.log_prob(x), d + 1), (made.log_flow(x), d)):
            (gradient,) = torch.autograd.grad(values[0, d], x, retain_graph=True)
            assert (gradient[0] != 0).tolist() == [e < seen for e in range(3)]
    assert not made.log_flow(x)[:, 0].any(), "F(s_0) = Z"


def test_gradients_are_right_and_reach_every_parameter():
    """Along a random direction through all parameters, by central differences: step² and rounding/step, 1e-10."""
    made = policy(hidden=5, components=3)
    x = made.sample(7, generator(0, "x"))

    def value():
        return (made.log_prob(x) + 0.3 * made.log_flow(x)).square().sum()

    value().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name
    along = [torch.randn(p.shape, generator=generator(0, "along"), dtype=p.dtype) for p in made.parameters()]
    slope = sum((p.grad * a).sum() for p, a in zip(made.parameters(), along)).item()
    around, step = [], 1e-5
    with torch.no_grad():
        for move in (step, -2 * step):
            for parameter, direction in zip(made.parameters(), along):
                parameter.add_(move * direction)
            around.append(value().item())
    assert slope == pytest.approx((around[0] - around[1]) / (2 * step), rel=1e-7)


# Jensen–Shannon divergence


def normal(mean, std):
    """Log density of N(mean, std² I) on axes."""
    mean = torch.as_tensor(mean, dtype=torch.float64)
    constant = len(mean) * math.log(std * math.sqrt(2 * math.pi))
    return on_grid(lambda x: -(x - mean).square().sum(1) / (2 * std**2) - constant)


def square(half, dimensions=2):
    return (
        torch.full((dimensions,), -half, dtype=torch.float64),
        torch.full((dimensions,), half, dtype=torch.float64),
    )


def jsd_by_quad(first, second):
    """Of two scipy densities on the line, by adaptive quadrature, over 12 standard deviations of both."""

    def integrand(x):
        p, q = first.pdf(x), second.pdf(x)
        return sum(v * math.log(2 * v / (p + q)) for v in (p, q) if v > 0) / 2

    ends = [d.mean() + side * 12 * d.std() for d in (first, second) for side in (-1, 1)]
    middle = [first.mean(), second.mean()]
    return integrate.quad(integrand, min(ends), max(ends), points=middle, limit=400, epsabs=1e-12)[0]


@pytest.mark.parametrize("apart, ratio", [(0.5, 1.0), (2.0, 1.0), (1.0, 0.4)])
def test_jsd_of_two_gaussians_is_another_integral(apart, ratio):
    """On the line; and in the plane where only one direction, not an axis, tells the two apart. The trapezoidal
    rule is exact to rounding for these, with 6 points to a standard deviation; what is reported must say so."""
    wanted = jsd_by_quad(stats.norm(0, 1), stats.norm(apart, ratio))
    line = of_densities(normal([0.0], 1.0), normal([apart], ratio), square(12.0, 1), 400)
    found = [line]
    if ratio == 1:
        shift = [0.6 * apart, 0.8 * apart]
        found.append(of_densities(normal([0.0, 0.0], 1.0), normal(shift, 1.0), square(9.0), 200))
    for jsd in found:
        assert jsd.value == pytest.approx(wanted, abs=1e-10) and jsd.error < 1e-8
    assert wanted > 0.01, "and it is not 0"


def test_jsd_s_error_holds_the_truth_where_the_box_or_the_grid_is_too_small():
    wanted = jsd_by_quad(stats.norm(0, 1), stats.norm(1, 1))
    for half, cells in ((1.5, 200), (3.0, 200), (12.0, 16), (12.0, 12)):
        jsd = of_densities(normal([0.0], 1.0), normal([1.0], 1.0), square(half, 1), cells)
        assert abs(jsd.value - wanted) <= jsd.error, (half, cells, jsd)
    outside = of_densities(normal([0.0], 1.0), normal([1.0], 1.0), square(1.5, 1), 2000).outside
    kept = stats.norm.cdf(1.5) - stats.norm.cdf(-1.5), stats.norm.cdf(0.5) - stats.norm.cdf(-2.5)
    assert outside == pytest.approx([1 - k for k in kept], abs=1e-5)  # the midpoint rule at a cut: (0.0015)²


def test_jsd_is_0_of_equal_and_log_2_of_disjoint_densities(planar):
    """log 2 within rounding, at 40 standard deviations' distance; also where one of them is beyond the box."""
    itself = on_grid(planar.log_prob)
    jsd = of_densities(itself, itself, planar.box)
    assert abs(jsd.value) < 1e-12 and jsd.error < 1e-7
    far = of_densities(normal([-20.0, 0.0], 1.0), normal([20.0, 0.0], 1.0), square(30.0))
    beyond = of_densities(normal([0.0, 0.0], 1.0), normal([40.0, 0.0], 1.0), square(12.0))
    for jsd in (far, beyond):
        assert jsd.value == pytest.approx(math.log(2), abs=1e-12)


def test_jsd_of_a_policy_is_that_of_its_density(planar):
    """The same integral with the policy's ``log_prob`` of every point; mixtures do not become each other."""
    made = policy(spread=3.0)
    with torch.no_grad():
        points, volume = grid(planar, 200)
        p, q = made.log_prob(points).sum(1).exp(), planar.log_prob(points).exp()
        m = (p + q) / 2
        inside = (torch.special.xlogy(p, p / m) + torch.special.xlogy(q, q / m)).sum() * volume / 2
        outside = 1 - p.sum() * volume  # where the target has nothing
    jsd = jensen_shannon(made, planar, 200)
    assert jsd.value == pytest.approx((inside + math.log(2) / 2 * outside).item(), abs=1e-6)
    assert 0.05 < jsd.value < math.log(2)
    assert jsd.outside[0] == pytest.approx(outside.item(), abs=1e-12)


@pytest.mark.parametrize("bins", [3, 25])
def test_bins_hold_the_target_s_mass(bins):
    """Of the mixture each coordinate's is a difference of normal distribution functions: exact."""
    target = TARGETS["mixture"]
    found = bin_probabilities(target, bins)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64) * 2 * target.box[1][0] + target.box[0][0]
    cdf = sum(torch.special.ndtr((edges - c) / math.sqrt(0.3)) for c in (-5.0, 0.0, 5.0)) / 3
    # 4 Gauss nodes, exact to degree 7, in panels of 0.3 standard deviations
    torch.testing.assert_close(
        found[:-1].view(bins, bins), torch.outer(cdf.diff(), cdf.diff()), rtol=0, atol=1e-12
    )
    assert found.sum() == pytest.approx(1, abs=1e-11)


def test_a_perfect_model_s_jsd_is_the_floor_and_a_wrong_one_s_is_not():
    target = TARGETS["mixture"]
    for count in (1000, 10_000):
        floor, error = sampling_floor(target, count)
        exact = [of_samples(target.sample(count, generator(seed, "perfect")), target) for seed in range(20)]
        exact = torch.tensor(exact)
        noise = math.hypot(error, (exact.std() / math.sqrt(20)).item())
        assert exact.mean().item() == pytest.approx(floor, abs=4 * noise)  # two means, four standard errors
        wrong = 1.1 * target.sample(count, generator(0, "wrong"))
        assert of_samples(wrong, target) > floor + 10 * noise


def test_the_floor_falls_as_1_over_n():
    """To (K − 1)/(8 N) where all K bins hold many: the three by three modes, K = 9. Next order: some 1/N of it."""
    target = TARGETS["mixture"]
    for count in (4_000, 40_000):
        floor, error = sampling_floor(target, count, bins=3, repeats=400)
        assert floor == pytest.approx(8 / (8 * count), abs=4 * error) and error < 0.05 * floor


@pytest.mark.parametrize("second", [-4.9, 4.9, 50.0])
def test_samples_beyond_the_box_are_a_bin_of_their_own(second):
    """±4.9 is one box further: bins counted on and on would end in the middle of the next row, the posterior's bulk."""
    target = TARGETS["banana"]
    x = torch.tensor([[0.8, second]], dtype=torch.float64).expand(100, 2)
    assert of_samples(x, target) == pytest.approx(math.log(2), abs=1e-5)  # of the target 1e-8 is there


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: GaussianMixture(variance=0), "variance > 0"),
        (lambda: Banana(noise=-1.0), "noise > 0"),
        (lambda: Banana().log_reward(torch.zeros(3, 3)), r"float \[N, 2\]"),
        (lambda: Banana().log_reward(torch.zeros(3, 2, dtype=torch.int64)), "points are float"),
        (lambda: GaussianMixture().log_prob(torch.full((1, 2), torch.nan)), "not finite"),
        (lambda: Banana().nuts(0, 0), "count and chains"),
        (lambda: CoordinatePolicy(2, spread=0.0), "spread > 0"),
        (lambda: CoordinatePolicy(2).log_prob(torch.zeros(3, 1)), r"\[N, 2\]"),
        (lambda: jensen_shannon(CoordinatePolicy(2), GaussianMixture(), 7), "must be even"),
        (lambda: bin_probabilities(GaussianMixture(), 0), "at least 1 bin"),
        (lambda: sampling_floor(GaussianMixture(), 10, repeats=1), "at least two repeats"),
    ],
)
def test_bad_input_is_a_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call()
