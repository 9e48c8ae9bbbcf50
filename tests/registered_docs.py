"""The statements of docs/*.md about results, as in registered_readme.py: (document, phrase, function)."""

from registered_readme import budget, fewer, mean, nll, parameters, word

NLL_FAST = [
    lambda f, images=images, goal=goal: f"{fewer(f, images, goal):.0f}"
    for images in ("digits", "cifar10")
    for goal in ("1000", "10000")
]


def start(f, key, scale="digits", digits=1):
    return f"{f.benchmark(f'pipeline-{scale}')['stage_start'][key]:.{digits}f}"


def by_dvc(f):
    return f.benchmark("pipeline-smoke")["status_s"]


def of_stock(f, contestant):
    """Images/s on a CPU over those of the stock diffusers loop."""
    found = f.benchmark("cpu-training")["contestants"]
    return found[contestant]["images_per_second"] / found["stock"]["images_per_second"]


def speed(f, contestant):
    return f"{f.benchmark('cpu-training')['contestants'][contestant]['images_per_second']:.2f}"


def order(f, steps, arm, what, key="mean"):
    """A number of the any-order benchmark, without its leading 0 and sign."""
    value = f.benchmark("any_order")["compared"][steps][arm][what][key]
    return f"{abs(value if key == 'mean' else value[0]):.4f}"[1:]


def estimated(f, precision):
    return f.benchmark("cpu-consistency")["memory"]["estimated"]["precision"][precision]


def gigabytes(f, precision, chunk):
    return f"{estimated(f, precision)['peak_bytes_at_chunk'][chunk] / 1e9:.1f}"


def stages(f, scale):
    """{kind of stage: minutes} of benchmarks/budget.py."""
    found = budget(f, scale)
    minutes = {kind: row["seconds"] / 60 for kind, row in found["stages"].items()}
    rest = 60 * found["hours"] - sum(minutes[kind] for kind in ("pretrain", "finetune", "nll"))
    return minutes["pretrain"], minutes["finetune"], minutes["nll"], rest, 60 * found["hours"]


def count(f, scale):
    """The stages of a scale that are not on the CPU beside the GPU's, fetch and report included."""
    found = budget(f, scale)
    return sum(row["stages"] for row in found["stages"].values()) + found["other_stages"]


def overhead(f, scale):
    """Seconds of it, at what budget.py assumes a stage."""
    import budget as script

    return count(f, scale) * script.ASSUMED_OVERHEAD


def memory(f, how):
    return f.benchmark("tbc_cost")["memory"]["digits"][how]


def scored(f, family, beginning):
    """The mean over seeds of the one score of a family that begins so."""
    runs = f.metrics("digits", "families", family)["runs"]
    (name,) = [each for each in runs[0]["scores"] if each.startswith(beginning)]
    return mean([run["scores"][name] for run in runs])


def snr(f, group):
    """The consistency gradient's signal-to-noise ratio over the bound's."""
    (row,) = [each for each in f.benchmark("recipe_digits")["alignment"] if each["group"] == group]
    return row["tbc"]["signal_to_noise"] / row["vlb"]["signal_to_noise"]


def first_to(f, task):
    """The objectives that reach the goal in the fewest steps."""
    steps = {
        o: case["steps"] for o, case in f.benchmark("time_to_l1")["cases"][task].items() if case["steps"]
    }
    return {o for o in steps if steps[o] == min(steps.values())}


DECISIONS, GPU, MATH, RECIPE = (f"docs/{name}.md" for name in ("decisions", "gpu", "math", "recipe"))

DOCS = [
    # decisions.md
    (
        DECISIONS,
        "`import torch` takes {} s and torch with diffusers {} s",
        lambda f: tuple(f"{seconds:.1f}" for seconds in f.benchmark("pipeline-digits")["imports_s"].values()),
    ),
    (
        DECISIONS,
        "A stage that imports neither still starts in {} s instead of {}",
        lambda f: (start(f, "warm_s"), start(f, "cold_s")),
    ),
    (
        DECISIONS,
        "A stage that computes next to nothing takes {} s with that and {} without, and DVC's look at one that is "
        "unchanged {} and {} (`stage_start`",
        lambda f: tuple(
            start(f, key, "smoke", 2)
            for key in ("warm_s", "warm_unparsed_s", "dvc_warm_s", "dvc_warm_unparsed_s")
        ),
    ),
    (
        DECISIONS,
        "alone it takes {} times as long for params.yaml and {} times for dvc.yaml (`yaml_s`",
        lambda f: tuple(
            f"{times['alone'] / times['libyaml']:.1f}"
            for times in map(f.benchmark("pipeline-smoke")["yaml_s"].get, ("params.yaml", "dvc.yaml"))
        ),
    ),
    (
        DECISIONS,
        "`dvc status` by DVC alone takes {} times as long as `mlegfn dvc status` on the scale `smoke`",
        lambda f: f"{by_dvc(f)['dvc'] / by_dvc(f)['mlegfn dvc']:.1f}",
    ),
    (
        DECISIONS,
        "the bare network's forward and backward take about {} of our step",
        lambda f: f"{f.benchmark('training_step')['ratios_ours_over']['bare']['cpu']:.1f}",
    ),
    (DECISIONS, "{} test images. **An archive's", lambda f: nll(f, "baseline-300", "digits")["images"]),
    (
        DECISIONS,
        "of the {} M net bf16 makes a training step {} times as fast (benchmarks/results/cpu-training.json; with "
        "channels_last {} times",
        lambda f: (
            f"{parameters(f) / 1e6:.1f}",
            f"{of_stock(f, 'ours bf16') / of_stock(f, 'ours fp32'):.1f}",
            f"{of_stock(f, 'ours bf16 channels_last') / of_stock(f, 'ours fp32'):.1f}",
        ),
    ),
    (
        DECISIONS,
        "it needs {} (1,000 images to ±0.01 bits/dim) and {} times (10,000 to ±0.005) fewer evaluations on a small "
        "digits net, {} and {} on a small CIFAR-10 net",
        lambda f: tuple(each(f) for each in NLL_FAST),
    ),
    (
        DECISIONS,
        "computed from the measured spreads, {} and {} images evaluated",
        lambda f: tuple(f.benchmark(f"nll_fast-{images}")["test_images"] for images in ("digits", "cifar10")),
    ),
    (
        DECISIONS,
        "At 600 steps, 8 seeds, TBC with λ = 1 takes the gap from {} to {} nats, with mean NLL {} against {}",
        lambda f: (
            order(f, "600", "random P_B", "gap"),
            order(f, "600", "random P_B, TBC λ = 1", "gap"),
            order(f, "600", "random P_B, TBC λ = 1", "NLL"),
            order(f, "600", "random P_B", "NLL"),
        ),
    ),
    (
        DECISIONS,
        "mean NLL .0987 against .0771 (interval includes 0)",
        lambda f: (lambda low, high: low < 0 < high)(
            *f.benchmark("any_order")["compared"]["600"]["random P_B, TBC λ = 1"]["NLL"]["difference"][1:]
        ),
    ),
    (
        DECISIONS,
        "A P_B learned jointly gains {} nats of ELBO",
        lambda f: order(f, "600", "learned P_B", "−ELBO", "difference")[:-1],
    ),
    (
        DECISIONS,
        "at 2000 steps (3 seeds) it does, {} to {}",
        lambda f: (order(f, "2000", "random P_B", "gap"), order(f, "2000", "learned P_B", "gap")),
    ),
    (
        DECISIONS,
        "**The memory bar of exact TBC is met by torch's own allocations; by plain peak RSS of a first gradient it is "
        "missed**",
        lambda f: (
            memory(f, "torch")["ratio"]
            <= f.benchmark("tbc_cost")["bars"]["peak memory at T=1000 over T=50, digits, torch"]["bound"]
            < memory(f, "resident")["first_gradient"]["ratio"]
        ),
    ),
    (
        DECISIONS,
        "Var[log w] falls, and the importance-weighted bound gets *worse*",
        lambda f: (
            scored(f, "hvae", "with TBC: test Var") < scored(f, "hvae", "ELBO alone: test Var")
            and scored(f, "hvae", "with TBC: test NLL, bits/dim (imp")
            > scored(f, "hvae", "ELBO alone: test NLL, bits/dim (imp")
        ),
    ),
    (
        DECISIONS,
        "At 0.01 all four are below the floor of as many exact samples",
        lambda f: all(
            scored(f, "gflownet", f"L1, {each}") < scored(f, "gflownet", "L1 of as many samples")
            for each in ("flow m", "detailed", "trajectory", "sub-trajectory")
        ),
    ),
    (
        DECISIONS,
        "**Score-function control variates cost more than {} of a step**",
        lambda f: min(
            bar["bound"]
            for bar in f.benchmark("control_variates")["bars"].values()
            if bar["value"] > bar["bound"]
        ),
    ),
    # gpu.md
    (
        GPU,
        "A state costs DDPM's {} M network {} GFLOP forward, {} GFLOP forward and backward",
        lambda f: (
            f"{parameters(f) / 1e6:.1f}",
            *(
                f"{f.benchmark('cpu-training')['flops'][way] / 1e9:.2f}"
                for way in ("forward", "forward_backward")
            ),
        ),
    ),
    (
        GPU,
        "| `cifar10-hour` | {} min | {} min | {} min | {} min | {} min |",
        lambda f: tuple(f"{minutes:.0f}" for minutes in stages(f, "cifar10-hour")),
    ),
    (
        GPU,
        "| `cifar10` | {} h | {} h | {} h |",
        lambda f: tuple(f"{minutes / 60:.1f}" for minutes in stages(f, "cifar10")[:3]),
    ),
    (
        GPU,
        "Overhead is {} of the hour's {} minutes: {} stages",
        lambda f: (
            f"{overhead(f, 'cifar10-hour') / 60:.0f}",
            f"{stages(f, 'cifar10-hour')[-1]:.0f}",
            count(f, "cifar10-hour"),
        ),
    ),
    (
        GPU,
        "With the full chain, of one image a step, each control would put {} states more a step through a gradient "
        "(equal evaluations for all arms): {} GPU-hours for `cifar10`, {} for `cifar10-hour`",
        lambda f: (
            f"{2 * 2 * f.settings('cifar10', 'diffusion', 'timesteps'):,}",
            f"{budget(f, 'cifar10', True)['gpu_hours']:.0f}",
            f"{budget(f, 'cifar10-hour', True)['gpu_hours']:.1f}",
        ),
    ),
    (
        DECISIONS,
        "put {} more states a step through a gradient: by benchmarks/budget.py {} times the GPU-hours",
        lambda f: (
            f"{2 * 2 * f.settings('cifar10', 'diffusion', 'timesteps'):,}",
            word(round(budget(f, "cifar10", True)["gpu_hours"] / budget(f, "cifar10")["gpu_hours"])),
        ),
    ),
    (
        GPU,
        "| {} GPU-hours |",
        lambda f: f"{budget(f, 'cifar10')['gpu_hours']:.1f}",
    ),
    *(
        (
            GPU,
            f"| {chunk}{' (default)' * (chunk == '256')} | {{}} GB | {{}} GB |",
            lambda f, chunk=chunk: (gigabytes(f, "bf16", chunk), gigabytes(f, "fp32", chunk)),
        )
        for chunk in ("256", "128", "64")
    ),
    (
        GPU,
        "A state keeps {} MB in bf16 and {} MB in fp32",
        lambda f: tuple(f"{estimated(f, p)['bytes_a_state'] / 1e6:.0f}" for p in ("bf16", "fp32")),
    ),
    (
        GPU,
        "a card of 24 GB takes a chunk of {} in bf16 and one of 12 GB of {}",
        lambda f: tuple(estimated(f, "bf16")["largest_chunk"][card] for card in ("24 GB", "12 GB")),
    ),
    (GPU, "| stock diffusers loop, fp32 | {} | |", lambda f: speed(f, "stock")),
    (
        GPU,
        "| ours, fp32 | {} | {} |",
        lambda f: (speed(f, "ours fp32"), f"{of_stock(f, 'ours fp32'):.2f}"),
    ),
    (
        GPU,
        "| ours, bf16, channels_last | {} | {} |",
        lambda f: (speed(f, "ours bf16 channels_last"), f"{of_stock(f, 'ours bf16 channels_last'):.2f}"),
    ),
    (
        GPU,
        "| ours, bf16 | {} | **{}** (bar {}) |",
        lambda f: (
            speed(f, "ours bf16"),
            f"{of_stock(f, 'ours bf16'):.2f}",
            f.benchmark("cpu-training")["bars"]["images/s of ours bf16 over stock"]["bound"],
        ),
    ),
    (
        GPU,
        "convolutions forward and backward are {} % and more of the step",
        lambda f: (
            int(
                min(
                    sum(kernel["share"] for kernel in profile["kernels"] if "conv" in kernel["name"])
                    for profile in f.benchmark("cpu-training")["profile"].values()
                )
                * 10
            )
            * 10
        ),
    ),
    (
        GPU,
        "the bf16 engine's loss is {}·10⁻⁵ from fp32's (relative) and its gradient {} %",
        lambda f: (
            f"{f.benchmark('cpu-training')['numerics']['ours bf16']['loss_relative_error'] * 1e5:.0f}",
            f"{f.benchmark('cpu-training')['numerics']['ours bf16']['gradient_relative_error'] * 100:.1f}",
        ),
    ),
    (
        GPU,
        "An exact TBC step takes {} times its bare network evaluations",
        lambda f: "{:.2f}".format(
            f.benchmark("cpu-consistency")["bars"][
                "time of an exact TBC step over its bare network evaluations"
            ]["value"]
        ),
    ),
    # math.md
    (
        MATH,
        "±0.01 bits/dim on 1,000 images take {} (digits) and {} (CIFAR-10) times fewer evaluations than the full sum, "
        "±0.005 on 10,000 images {} and {} times",
        lambda f: tuple(NLL_FAST[i](f) for i in (0, 2, 1, 3)),
    ),
    (
        MATH,
        "the guess's variance is {} to {} of the best allocation's",
        lambda f: tuple(
            f"{which(needed['variance_over_optimal'] for i in ('digits', 'cifar10') for needed in f.benchmark(f'nll_fast-{i}')['needed'].values()):.2f}"
            for which in (min, max)
        ),
    ),
    # recipe.md
    (
        RECIPE,
        "the full-chain TBC's gradient has about a hundredth of the bound's signal-to-noise ratio",
        lambda f: 1 / 150 < snr(f, "analytic, full chain") < 1 / 66,
    ),
    (
        RECIPE,
        "On digits, the difference to the same likelihood term without TBC is zero within its interval (small λ)",
        lambda f: set(f.outcomes("digits", "vlb-at-equal-steps")) == {"indistinguishable"},
    ),
    (
        RECIPE,
        "on planar problems, where intervals are narrower, it is an increase in every setting",
        lambda f: set(f.outcomes("digits", "planar-nll-below-vlb")) == {"higher"},
    ),
    # objectives.md
    (
        "docs/objectives.md",
        "To a moderate distance (L1 {} on sets and sequences)",
        lambda f: f.benchmark("time_to_l1")["goal"],
    ),
    (
        "docs/objectives.md",
        "log-variance, reverse KL and Rényi needed no more steps than any other",
        lambda f: all(
            {"log_variance", "reverse_kl", "renyi"} <= first_to(f, t) for t in ("sets", "sequences")
        ),
    ),
]
