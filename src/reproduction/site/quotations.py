"""What README and docs quote of the results: a function of the repository's root for each, which returns Markdown.

Links are as seen from README, but for those of the quotations ``objectives`` and ``stations``, which docs quote, and those of
:mod:`reproduction.site.predictions`.
"""

import csv
import json

from reproduction.divergences.report.metrics import OBJECTIVES
from reproduction.site import artifacts, markup, predictions
from reproduction.site.readings import listed, outcome, same_as
from reproduction.verdicts.evidence import UNDECIDED
from reproduction.verdicts.verdict import markdown

__all__ = ["QUOTATIONS"]


def _json(root, *path):
    return json.loads(root.joinpath(*path).read_text(encoding="utf-8"))


def _rows(root, *path):
    with open(root.joinpath("results", *path), newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _claims(root, scale, *experiments):
    paths = [("results", scale, experiment, "report", "verdict.json") for experiment in experiments]
    return [
        claim for path in paths if root.joinpath(*path).is_file() for claim in _json(root, *path)["claims"]
    ]


def _benchmark(root, name):
    return _json(root, "benchmarks", "results", f"{name}.json")


def setting(scale):
    """What the images of a scale are and how they were modelled."""

    def quote(root):
        if artifacts.former(scale, "images", root):
            return "results of a former version: `make reproduce` makes them anew"
        folder = ("results", scale, "images", "metrics")
        saved = [row for row in _rows(root, scale, "images", "tables", "nll.csv") if row["arm"] == "baseline"]
        last, seed = saved[-1], _rows(root, scale, "images", "tables", "paired.csv")[0]["seed"]
        file = f"{last['step']}-{seed}.json"
        about, trained = _json(root, *folder, "nll", "baseline", file), _json(root, *folder, "pretrain", file)
        return (
            f"{about['images']:,} test images of {about['dims']:,} values and {about['levels']} levels, a U-Net of "
            f"{trained['parameters']:,} parameters, T = {about['timesteps']}, {about['variance']} reverse variances, "
            f"{trained['step']:,} steps to {float(last['bits_per_dim']):.2f} bits/dim, {last['seeds']} pretraining "
            "seeds, each with its own fine-tunes"
        )

    return quote


def digits_outcome(root):
    """Whether Figure 1 holds at the scale digits, whether its control does, and what it costs."""
    rows = [{**claim, "scale": "digits"} for claim in _claims(root, "digits", "images", "planar")]
    return " ".join(outcome(rows))


def verdict_table(root):
    """The verdicts of Figures 1 and 2 at the scale digits."""
    claims = _claims(root, "digits", "images", "planar")
    return markdown({"scale": "digits", "claims": claims}).split("<details>")[0].strip()


def verdicts(scale, experiment):
    """A list of an experiment's verdicts at a scale, without the claims that it does not test."""

    def quote(root):
        claims = _claims(root, scale, experiment)
        lines = []
        for claim, same in zip(claims, same_as([claim["claim"] for claim in claims])):
            if claim["estimate"] is not None:
                again = f" (“{same}”)" if same else ""
                # What an undecided verdict could not have seen comes second.
                said = "; ".join(claim["detail"].split("; ")[: 1 + (claim["verdict"] == UNDECIDED)])
                lines.append(f"- {claim['claim']}{again}: **{claim['verdict']}** ({said})")
        return "\n".join(lines)

    return quote


def families(root):
    """A row a family: its policies, and how many comparisons of Table 1 it passed."""
    from reproduction.families.report import tables

    titles = dict.fromkeys(row["family"] for row in _rows(root, "digits", "families", "tables", "table1.csv"))
    metrics = [json.loads(path.read_text()) for path in root.glob("results/digits/families/metrics/*.json")]
    metrics.sort(key=lambda family: list(titles).index(family["title"]))
    return tables.summary_markdown({family["title"]: family for family in metrics})


def bits(root):
    """How our NLLs of the planar problems as 32 bits lie to EB-GFN's."""
    rows = [row for row in _rows(root, "discrete", "bits", "tables", "bits.csv") if row["eb_gfn_nll"]]
    names = {
        "ordered": "with a P_B in a fixed order, least significant digit first",
        "random": "with a uniform random P_B",
        "random_tbc": "with the uniform P_B and TBC",
        "learned": "with a learned P_B",
        "learned_tbc": "with a learned P_B and TBC",
    }
    reached = {}
    for row in rows:
        reached.setdefault(row["arm"], []).append(float(row["nll"]) <= float(row["eb_gfn_nll"]))
    counts = [
        f"on {sum(reached[arm])} of {len(reached[arm])} problems {names[arm]}"
        for arm in names
        if arm in reached
    ]
    below = dict.fromkeys(
        row["problem"] for row in rows if float(row["eb_gfn_nll"]) < float(row["data_entropy"])
    )
    text = f"EB-GFN's published NLL is reached {listed(counts)} ({rows[0]['seeds']} seed)."
    if below:
        text += f" On {listed(below)} the published value lies below the data's entropy, which no model reaches on average."
    short = {
        (row["problem"], row["arm"]): float(row["nll"])
        for row in _rows(root, "digits", "bits", "tables", "bits.csv")
    }
    problems = [problem for problem, arm in short if arm == "learned"]
    worse = sum(short[problem, "learned"] > short[problem, "random"] for problem in problems)
    return (
        f"{text} In the short setting of the scale `digits` a *learned* P_B has a higher NLL than the random one on "
        f"{worse} of {len(problems)} problems."
    )


def control_variates(root):
    """By which factors control variates lower the trace of the gradient's covariance, and what they cost."""
    rows = _rows(root, "divergences", "divergences", "tables", "gradients.csv")

    def factors(variate, objectives):
        chosen = [row for row in rows if row["control_variate"] == variate and row["objective"] in objectives]
        return sorted((1 / float(row["trace_over_none"]), row["objective"], row["task"]) for row in chosen)

    def span(values):
        low, high = values[0][0], values[-1][0]
        return f"{_short(low)} to {_short(high)}"

    every, alphas = {row["objective"] for row in rows}, ("renyi", "tsallis")
    both = factors("both", every)
    (_, weak, weak_task), (_, strong, strong_task) = both[0], both[-1]
    traces = {}  # {variate: {what else a trace is of: the trace}}
    for row in rows:
        key = (row["task"], row["objective"], row["batch"])
        traces.setdefault(row["control_variate"], {})[key] = float(row["trace"])
    ratios = sorted(trace / traces["both"][key] for key, trace in traces["combined"].items())
    costs = _benchmark(root, "control_variates")["ratios"]
    combined, score = (
        max(costs[key] for key in costs if key.endswith(f", {name}")) for name in ("combined", "score")
    )
    return (
        f"Both control variates of the paper together lower the trace of the gradient's covariance by factors of "
        f"{span(both)}: least for {OBJECTIVES[weak].title} on {weak_task.lower()}, most for {OBJECTIVES[strong].title} on "
        f"{strong_task.lower()}. Leave-one-out alone: {span(factors('leave_one_out', ('reverse_kl',)))} for reverse KL, "
        f"{span(factors('leave_one_out', alphas))} for the α-divergences; the score function alone: "
        f"{span(factors('score', every))} (below 1 it does harm). One leave-one-out baseline for both terms, ours, has "
        f"{_short(ratios[0])} to {_short(ratios[-1])} times the trace of both, and a step costs {combined:.2f} times one "
        f"without any; with the score function it costs {score:.2f} times "
        "([measured](benchmarks/results/control_variates.json))."
    )


def best_objectives(root):
    """On how many tasks each objective cannot be told apart from the best one."""
    text = root.joinpath("results/divergences/divergences/report/objectives.md").read_text(encoding="utf-8")
    table = markup.split(text)[1][0]
    column = next(k for k, head in enumerate(table.head) if "as good as" in head)
    counts = [f"{row[0].html} ({row[column].html})" for row in table.rows if " of " in row[column].html]
    return f"How many of the tasks an objective cannot be told apart from the best one on: {listed(counts)}."


def objectives(root):
    """The ranking of the scale divergences with its figures, its links as seen from docs."""
    path = root / "results/divergences/divergences/report/objectives.md"
    if not path.is_file():
        return "*Not measured yet: the scale `divergences` has no results here.*"
    return path.read_text(encoding="utf-8").strip().replace("](../", "](../results/divergences/divergences/")


def stations(root):
    """The gallery's stations, for docs."""
    from reproduction.gallery.report import page

    return page.sections(root)


def timing(root):
    """How long the scale digits takes."""
    run = _benchmark(root, "pipeline-digits")
    return (
        f"On {run['cores']} CPU cores the scale `digits` took {run['whole_run_s'] / 60:.0f} minutes, and "
        f"{run['nothing_to_do_s']:.0f} s when nothing had changed ([benchmark](benchmarks/results/pipeline-digits.json))."
    )


def tests(root):
    """How long the tests take."""
    suite = _benchmark(root, "suite")
    return (
        f"`make test` took {suite['minutes']:.1f} minutes on {suite['cores']} CPU cores when it was last timed "
        "([by file](benchmarks/results/suite.json))."
    )


def faults(root):
    """How many runs the campaign of faults disturbed."""
    trials = _benchmark(root, "faults")["trials"]
    names = {
        "kill": "`kill -9`",
        "term": "SIGTERM",
        "full": "a full disk",
        "readonly": "a read-only results folder",
    }
    held = ", ".join(
        f"{name} {sum(trial['holds'] for trial in trials if trial['kind'] == kind)} of "
        f"{sum(trial['kind'] == kind for trial in trials)}"
        for kind, name in names.items()
    )
    return f"a campaign at random moments, in which these held: {held} ([measured](benchmarks/results/faults.json))"


def speed(root):
    """How fast our code is beside others'."""
    training = _benchmark(root, "cpu-training")["bars"]["images/s of ours bf16 over stock"]["value"]
    fewer = sorted(
        goal["fewer"]
        for images in ("digits", "cifar10")
        for goal in _benchmark(root, f"nll_fast-{images}")["needed"].values()
    )
    cases = _benchmark(root, "gflownets")["mlegfn_over"].values()
    torchgfn, gfnx = (sorted(case[peer] for case in cases) for peer in ("torchgfn", "gfnx"))
    return (
        f"[DDPM's own network on a CPU](benchmarks/results/cpu-training.json): {training:.1f} × the stock diffusers loop in "
        f"fp32, by bf16. [The stratified NLL against the full sum over t](benchmarks/results/nll_fast-cifar10.json): "
        f"{fewer[0]:.0f} to {fewer[-1]:.0f} times fewer network evaluations. "
        f"[Training GFlowNets by trajectory balance](benchmarks/results/gflownets.json), on one core: "
        f"{_short(torchgfn[0])} to {_short(torchgfn[-1])} times torchgfn, {_short(gfnx[0])} to {_short(gfnx[-1])} times gfnx, "
        "which is compiled by JAX."
    )


def _short(number):
    """Two digits: ``0.44``, ``17``, ``31,000``."""
    return f"{float(f'{number:.2g}'):,.3g}" if number < 100 else f"{float(f'{number:.2g}'):,.0f}"


# {name between the markers: function of the repository's root}
QUOTATIONS = {
    "setting": setting("digits"),
    "outcome": digits_outcome,
    "verdict": verdict_table,
    "families": families,
    "bits": bits,
    "control-variates": control_variates,
    "best-objectives": best_objectives,
    "divergences-verdicts": verdicts("divergences", "divergences"),
    "image-verdicts": verdicts("digits", "images"),
    "objectives": objectives,
    "stations": stations,
    "timing": timing,
    "tests": tests,
    "faults": faults,
    "speed": speed,
    **predictions.QUOTATIONS,
}
