"""README's statements about results, each with what must be committed for it to stand.

(phrase, function of a Committed): where the phrase has ``{}``, the function gives what stands there, as it stands
there; where it has none, whether the phrase is true.
"""

import functools
import sys

from mlegfn import config

params = functools.cache(config.load)

WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def word(count):
    return WORDS[count]


def called(number, names):
    """The name of a number that the text spells out; the number itself where it has none."""
    return names.get(number, f"{number}")


def gfn(f, peer):
    """The smallest and the largest ratio of our speed to a peer's, two digits each."""
    ratios = [case[peer] for case in f.benchmark("gflownets")["mlegfn_over"].values()]
    return min(ratios), max(ratios)


def traces(f, task, objective, variate):
    """How many times smaller a control variate makes the trace, at every batch size."""
    rows = f.rows("results/divergences/tables/divergences-gradients.csv")
    which = {"task": task, "objective": objective, "control_variate": variate}
    return [1 / row["trace_over_none"] for row in rows if all(row[k] == v for k, v in which.items())]


def discrete(f, scale, model, key="nll"):
    """{problem: the mean over seeds} of a discrete arm."""
    found = {}
    for problem in f.settings(scale, "discrete", "problems"):
        runs = f.metrics(scale, "discrete", problem)["runs"]
        values = [run[key] for run in runs if run["model"] == model]
        found[problem] = sum(values) / len(values)
    return found


def published(f):
    """{problem: EB-GFN's NLL}, as claims.yaml has it."""
    return f.yaml("claims.yaml")["discrete-nll-ordered"]["test"]["values"]


def ordered(f):
    """{problem: our NLL with the fixed order}, of the problems that EB-GFN has."""
    return {problem: discrete(f, "discrete", "ordered")[problem] for problem in published(f)}


def final(f, task, objective):
    """The exact metric of a GFlowNet objective after training, for each seed."""
    runs = f.metrics("divergences", "divergences", task)["runs"]
    return [run["final"]["exact"] for run in runs if run["objective"] == objective]


def trajectories(f, task):
    """How many a GFlowNet is trained on."""
    settings = f.settings("divergences", "divergences", "tasks", task)
    return settings["steps"] * settings["batch"]


def mean(values):
    return sum(values) / len(values)


def alike(f, objective):
    """“k of n” of an objective: on how many tasks it cannot be told apart from the best."""
    path = "results/divergences/report/divergences-objectives.md"
    (row,) = [line for line in f.lines(path) if line.startswith(f"| {objective} ") and " of " in line]
    return row.split("|")[6].split(" of ")


def nll(f, run, scale="cifar10-cpu"):
    return f.metrics(scale, "nll", run)


@functools.cache
def budget(f, scale, full_chain=False):
    """What benchmarks/budget.py computes for a scale, at its assumed rates, from counted FLOPs.

    ``full_chain``: with the full chain of one image a step instead of the respaced one.
    """
    sys.path.insert(0, str(f.root / "benchmarks"))
    import budget as script

    flops = f.benchmark("cpu-training")["flops"]  # of DDPM's own network
    rates = {
        "training": script.ASSUMED_TRAINING * script.H100_PEAK / flops["forward_backward"],
        "evaluation": script.ASSUMED_EVALUATION * script.H100_PEAK / flops["forward"],
    }
    settings = params(f.root / "params.yaml").scale(scale)
    if full_chain:
        consistency = settings.finetune.consistency.model_copy(update={"chain": "full", "images": 1})
        finetune = settings.finetune.model_copy(update={"consistency": consistency})
        settings = settings.model_copy(update={"finetune": finetune})
    return script.budget(scale, settings, rates, script.ASSUMED_OVERHEAD)


def parameters(f):
    """Of DDPM's network, which tests/test_unet.py counts."""
    (line,) = [
        each
        for each in f.lines("tests/test_unet.py")
        if ".parameters()) == " in each and each.count("_") == 2
    ]
    return int(line.split("==")[1].replace("_", ""))


def fewer(f, images, goal):
    return f.benchmark(f"nll_fast-{images}")["needed"][goal]["fewer"]


def faults(f, kind):
    """The trials of one kind of the fault campaign that count; every one of them must have held."""
    found = [each for each in f.benchmark("faults")["trials"] if each["kind"] == kind and each["counts"]]
    assert all(each["ok"] for each in found)
    return found


RESULTS = [
    # Two commands
    ("The tests run {} % of the lines of `src/`", lambda f: f"{f.benchmark('coverage')['percent']:.1f}"),
    (
        "`make test` took {} minutes on {} CPU cores when it was last timed",
        lambda f: (f"{f.benchmark('suite')['minutes']:.1f}", f.benchmark("suite")["cores"]),
    ),
    (
        "and {} at an earlier commit on {} slower ones",
        lambda f: (f"{f.benchmark('suite-slower')['minutes']:.1f}", f.benchmark("suite-slower")["cores"]),
    ),
    (
        "A campaign of {} × `kill -9` and {} × SIGTERM at random moments",
        lambda f: (sum(len(each["kills"]) for each in faults(f, "kill")), len(faults(f, "term"))),
    ),
    ("{} s when nothing changed", lambda f: f"{f.benchmark('pipeline-digits')['nothing_to_do_s']:.0f}"),
    # What comes out, digits
    (
        "8×8 digits, {} grey levels), a small U-Net, T = {}, {} reverse variances, {} fine-tuning seeds",
        lambda f: (
            nll(f, "baseline-300", "digits")["levels"],
            nll(f, "baseline-300", "digits")["timesteps"],
            nll(f, "baseline-300", "digits")["variance"],
            word(f.claim("digits", "figure1-from-every-checkpoint")["seeds"]),
        ),
    ),
    (
        "MLE-GFN fine-tuning does beat the baseline from every checkpoint, as Figure 1 of the paper says",
        lambda f: f.verdict("digits", "figure1-from-every-checkpoint") == "reproduced",
    ),
    (
        "the control shows that the consistency term is not why**: the same fine-tuning on the bound alone, without "
        "the term, does equally well",
        lambda f: set(f.outcomes("digits", "vlb-at-equal-steps")) == {"indistinguishable"},
    ),
    (
        "At equal network evaluations instead of equal steps, it does not beat the baseline from every checkpoint",
        lambda f: f.verdict("digits", "baseline-at-equal-evaluations") == "not reproduced",
    ),
    (
        "**Figure 2**: {} 2-D problems",
        lambda f: word(len(f.claim("digits", "figure2-samples-match")["parts"])),
    ),
    # The planar problems as bits
    (
        "`digits` has all {} arms and {} problems in a very short setting",
        lambda f: (
            word(len({run["model"] for run in f.metrics("digits", "discrete", "moons")["runs"]})),
            word(len(f.settings("digits", "discrete", "problems"))),
        ),
    ),
    (
        "the published values are reached on {} of the {} problems, {} seed",
        lambda f: (
            sum(value <= published(f)[problem] for problem, value in ordered(f).items()),
            len(ordered(f)),
            word(f.claim("discrete", "discrete-nll-ordered", "discrete")["seeds"]),
        ),
    ),
    (
        "on pinwheel by less than the standard error",
        lambda f: (
            0
            < published(f)["pinwheel"] - ordered(f)["pinwheel"]
            < discrete(f, "discrete", "ordered", "nll_standard_error")["pinwheel"]
        ),
    ),
    (
        "on the fourth, circles, the published value lies below the data's entropy, which no model reaches",
        lambda f: (
            ordered(f)["circles"] > published(f)["circles"]
            and f.metrics("discrete", "discrete", "circles")["entropy"] > published(f)["circles"]
        ),
    ),
    (
        "With a random P_B they are not, and TBC does not change that",
        lambda f: all(
            discrete(f, "discrete", arm)[problem] > value
            for arm in ("random", "random_tbc")
            for problem, value in published(f).items()
        ),
    ),
    (
        "A *learned* P_B, in the short setting, finds no order and is worse than the random one",
        lambda f: all(
            value > discrete(f, "digits", "random")[problem]
            for problem, value in discrete(f, "digits", "learned").items()
        ),
    ),
    (
        "at full length it has not been run",
        lambda f: f.verdict("discrete", "discrete-nll-learned", "discrete") == "not tested at this scale",
    ),
    # GFlowNets by divergences
    (
        "from about twofold (forward KL on the hypergrid)",
        lambda f: all(1.5 < t < 2.5 for t in traces(f, "Hypergrid", "forward_kl", "both")),
    ),
    (
        "to ten-thousand-fold (reverse KL on sets and sequences)",
        lambda f: all(
            9000 < t < 50000 for task in ("Sets", "Sequences") for t in traces(f, task, "reverse_kl", "both")
        ),
    ),
    (
        "Leave-one-out alone does part of it for reverse KL and nothing for the α-divergences",
        lambda f: all(
            0.85 < alpha < 1.05 and 5 < kl < both
            for task in ("Hypergrid", "Sets", "Sequences")
            for o in ("renyi", "tsallis")
            for alpha, kl, both in zip(
                traces(f, task, o, "leave_one_out"),
                traces(f, task, "reverse_kl", "leave_one_out"),
                traces(f, task, "reverse_kl", "both"),
            )
        ),
    ),
    (
        "the score function alone does harm",
        lambda f: all(
            t < 1
            for task in ("Hypergrid", "Sets", "Sequences")
            for o in ("reverse_kl", "renyi", "tsallis")
            for t in traces(f, task, o, "score")
        ),
    ),
    (
        "One leave-one-out baseline for both terms, ours, is as low or lower",
        lambda f: all(
            ours > 0.999 * both
            for task in ("Hypergrid", "Sets", "Sequences")
            for o in ("reverse_kl", "forward_kl", "renyi", "tsallis")
            for ours, both in zip(traces(f, task, o, "combined"), traces(f, task, o, "both"))
        ),
    ),
    (
        "the score function's takes almost twice the time",
        lambda f: all(
            1.85 < ratio < 2
            for name, ratio in f.benchmark("control_variates")["ratios"].items()
            if name.endswith(", score")
        ),
    ),
    (
        "**Forward KL and Tsallis-0.5 cannot be told apart from the best objective on any task**",
        lambda f: all(
            k.strip() == n.strip() == "7" for k, n in (alike(f, "forward KL"), alike(f, "Tsallis-α"))
        ),
    ),
    (
        "On the banana the paper's figure is reproduced: Tsallis, Rényi and forward KL come closer than TB and "
        "reverse KL, which look alike",
        lambda f: all(
            f.verdict("divergences", name, "divergences") == "reproduced"
            for name in ("divergences-banana", "divergences-banana-alike")
        ),
    ),
    (
        "On the mixture TB collapses in four of five seeds and forward KL in one, at values close to the paper's; "
        "five seeds do not suffice to tell them apart (verdict: not reproduced)",
        # JSD of a policy on one of nine modes: 0.53; the paper's TB 0.31 ± 0.08.
        lambda f: (
            f.verdict("divergences", "divergences-mixture", "divergences") == "not reproduced"
            and [
                sum(jsd > 0.2 for jsd in final(f, "mixture", objective)) * 10
                + len(final(f, "mixture", objective))
                for objective in ("trajectory_balance", "forward_kl")
            ]
            == [45, 15]
            and abs(mean(final(f, "mixture", "trajectory_balance")) - 0.31) < 0.08
            and mean(final(f, "mixture", "forward_kl")) < 0.1
        ),
    ),
    (
        "On sets forward KL beats TB, of the other three it cannot be said",
        lambda f: (
            [
                (part["where"], part["outcome"])
                for part in f.claim("divergences", "divergences-sets", "divergences")["parts"]
            ]
            == [
                ("forward KL against TB", "lower"),
                ("Tsallis-α against TB", "indistinguishable"),
                ("reverse KL against TB", "indistinguishable"),
                ("Rényi-α against TB", "indistinguishable"),
            ]
        ),
    ),
    (
        "on sequences reverse KL cannot be told apart from TB",
        lambda f: f.outcomes("divergences", "divergences-sequences", "divergences") == ["indistinguishable"],
    ),
    (
        'with {} seeds "no difference" on trees says little',
        lambda f: word(f.claim("divergences", "divergences-phylogeny", "divergences")["seeds"]),
    ),
    (
        "a perceptron on the same target is closer from a {} of the trajectories",
        lambda f: called(trajectories(f, "phylogeny_mlp") / trajectories(f, "phylogeny"), {0.25: "quarter"}),
    ),
    (
        "On trees the graph network is the limit, not the objective",
        lambda f: all(
            mean(final(f, "phylogeny_mlp", o)) < mean(final(f, "phylogeny", o))
            for o in ("trajectory_balance", "reverse_kl", "forward_kl", "renyi", "tsallis")
        ),
    ),
    (
        "target of one's own in {} lines",
        lambda f: called(round(len(f.lines("examples/new_target.py")), -1), {70: "seventy"}),
    ),
    # CIFAR-10 on a CPU
    (
        "{} training and {} test images of CIFAR-10, a U-Net of a million parameters, T = {}, {} steps, {} fine-tuning",
        lambda f: (
            f"{5 * f.settings('cifar10-cpu', 'data', 'per_batch'):,}",
            f"{nll(f, 'baseline-2500')['images']:,}",
            nll(f, "baseline-2500")["timesteps"],
            f"{f.metrics('cifar10-cpu', 'pretrain', '2500')['step']:,}",
            word(f.claim("cifar10-cpu", "figure1-from-every-checkpoint")["seeds"]),
        ),
    ),
    (
        "a U-Net of a million parameters",
        lambda f: round(f.metrics("cifar10-cpu", "pretrain", "2500")["parameters"] / 1e6) == 1,
    ),
    (
        "the network is {} times smaller",
        lambda f: called(
            round(parameters(f) / f.metrics("cifar10-cpu", "pretrain", "2500")["parameters"], -1),
            {30: "thirty"},
        ),
    ),
    (
        "hardly trained ({} bits/dim",
        lambda f: f"{nll(f, 'baseline-2500')['points'][0]['bits_per_dim']:.1f}",
    ),
    (
        "MLE-GFN beats the baseline from the first of {} checkpoints only, where every arm does; at the second it "
        "cannot be told from the baseline, at the last two it is worse",
        lambda f: (
            word(len(f.outcomes("cifar10-cpu", "figure1-from-every-checkpoint")))
            if f.outcomes("cifar10-cpu", "figure1-from-every-checkpoint")
            == ["lower", "indistinguishable", "higher", "higher"]
            else "not so"
        ),
    ),
    (
        "L_simple trained on is better on average",
        lambda f: f.outcomes("cifar10-cpu", "simple-at-equal-steps-mean") == ["higher"],
    ),
    (
        "at {} of the {} MLE-GFN is worse than the bound without the consistency term",
        lambda f: (
            word(f.outcomes("cifar10-cpu", "vlb-at-equal-steps").count("higher")),
            word(len(f.outcomes("cifar10-cpu", "vlb-at-equal-steps"))),
        ),
    ),
    (
        "**Figure 1's claim is not reproduced at this scale**",
        lambda f: f.verdict("cifar10-cpu", "figure1-from-every-checkpoint") == "not reproduced",
    ),
    # Scales, speed
    (
        "they take {} minutes and {} hours of one H100",
        lambda f: (
            f"{budget(f, 'cifar10-hour')['hours'] * 60:.0f}",
            f"{budget(f, 'cifar10')['gpu_hours']:.1f}",
        ),
    ),
    (
        "({} × the stock diffusers loop in fp32, by bf16)",
        lambda f: f"{f.benchmark('cpu-training')['bars']['images/s of ours bf16 over stock']['value']:.1f}",
    ),
    (
        "({} to {} times fewer network evaluations)",
        lambda f: (
            f"{min(fewer(f, i, g) for i in ('digits', 'cifar10') for g in ('1000', '10000')):.0f}",
            f"{max(fewer(f, i, g) for i in ('digits', 'cifar10') for g in ('1000', '10000')):.0f}",
        ),
    ),
    (
        "trajectory balance on one core, {} targets, {} batch sizes: {} to {} times torchgfn; {} to {} times gfnx",
        lambda f: (
            word(len({case.split(",")[0] for case in f.benchmark("gflownets")["mlegfn_over"]})),
            word(len({case.split(",")[1] for case in f.benchmark("gflownets")["mlegfn_over"]})),
            *(f"{ratio:.1f}" for ratio in gfn(f, "torchgfn")),
            *(f"{ratio:.2g}" for ratio in gfn(f, "gfnx")),
        ),
    ),
    (
        "wins at batch 16 on short trajectories",
        lambda f: (
            {case for case, r in f.benchmark("gflownets")["mlegfn_over"].items() if r["gfnx"] < 1}
            == {"grid8, batch 16", "sets, batch 16"}
        ),
    ),
    ("training until L1 {}", lambda f: f.benchmark("time_to_l1")["goal"]),
]

SETTINGS = [
    ("a point is {} Gray-coded bits", lambda f: f.lines("src/mlegfn/data/gray.py")[0].split()[5]),
    (
        "only the first {} images of each of the six batches",
        lambda f: f"{f.settings('cifar10-cpu', 'data', 'per_batch'):,}",
    ),
    (
        "the first {} images of CIFAR-10's batches",
        lambda f: f"{6 * f.settings('cifar10-cpu', 'data', 'per_batch'):,}",
    ),
    ("| `smoke` | {} digits |", lambda f: f.settings("smoke", "data", "train_limit")),
    (
        "| {} planar problems as 32 bits |",
        lambda f: word(len(f.settings("discrete", "discrete", "problems"))),
    ),
    (
        "DDPM's {} M U-Net, to {}k steps",
        lambda f: (f"{parameters(f) / 1e6:.1f}", f.settings("cifar10-hour", "pretrain", "stop") // 1000),
    ),
    ("| the same to {}k steps |", lambda f: f.settings("cifar10", "pretrain", "stop") // 1000),
    (
        "For T = {} the likelihood is estimated without bias",
        lambda f: f.settings("cifar10", "diffusion", "timesteps"),
    ),
    (
        "bias from a tenth of the network evaluations",
        lambda f: any("default=100," in line for line in f.lines("src/mlegfn/arguments.py")),
    ),
]
