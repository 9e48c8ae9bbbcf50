"""What the campaign found: benchmarks/results/faults.json, and docs/faults.md from it."""

import json
import sys
from collections import Counter
from pathlib import Path
from statistics import median

from faults.checkouts import REPOSITORY, save

RESULT = REPOSITORY / "benchmarks/results/faults.json"
PAGE = REPOSITORY / "docs/faults.md"
# Kind of trial → (what is done, what must hold).
KINDS = {
    "kill": (
        "SIGKILL to every process of `make reproduce SCALE=smoke` at a random moment",
        "the next run ends with 0; every byte is the undisturbed run's; nothing recorded runs again",
    ),
    "term": (
        "SIGTERM at a random moment, to all processes, to make or to mlegfn alone; every other one in a training",
        "the same; no process is left; a training resumes at the step at which it stopped",
    ),
    "full": (
        "a small disk, or a limit on a file's size, where results, the cache, everything or /tmp lie",
        "exit code 2 and a line that says why; nothing made before is harmed; with space, every byte is right",
    ),
    "readonly": (
        "results, data, cache, .dvc, the checkout, /tmp or the home mounted read-only in the middle of a run",
        "the same",
    ),
    "flip": (
        "one bit of a data file, checkpoint, cache object or remote object, half of them with their time kept",
        "noticed before a stage computes with it, with the file's name",
    ),
    "twice": (
        "a second run in the same checkout at a random moment; two checkouts with one cache at once",
        "the second refuses with a line; the results of all are right",
    ),
    "clean": (
        "a clean run in another folder, home, time zone, language, hash seed, umask, on other cores",
        "every byte is the undisturbed run's",
    ),
}


def write(done, reference, chosen, machine):
    """Write both files if this was a whole campaign; print what failed; the exit code."""
    done = sorted(done, key=lambda each: (list(KINDS).index(each["kind"]), each["index"]))
    failed = [each for each in done if not each["ok"]]
    for each in failed:
        print(f"FAILED: {each['kind']} {each['index']}: {why(each)}", file=sys.stderr)
    result = {
        "machine": machine,
        "seed": chosen.seed,
        "chain": chosen.chain,
        "part": chosen.part,
        "undisturbed_s": round(reference["seconds"], 1),
        "files_compared": len(reference["manifest"]),
        "trials": done,
    }
    save(chosen.work / "faults.json" if chosen.only else RESULT, result)
    if not chosen.only:
        render()
    return 1 if failed else 0


def why(each):
    """The first thing that is wrong with a trial, in one line."""
    if "campaign" in each:
        return each["campaign"].strip().splitlines()[-1]
    for fault in each.get("faults", []):
        if not fault["ok"]:
            what = fault.get("harm") or fault.get("line") or "no line that says why"
            return f"{each.get('place', '')} {fault['what']}: code {fault['code']}, {what}"
    for key in ("outcome", "left_running", "ran_again", "differing"):
        if each.get(key):
            return f"{key}: {each[key]}"
    return f"code {each.get('code', each.get('codes', each.get('first_code')))}, {each.get('cache', '')}"


def fuzz():
    """A sentence on the fuzzing from its own JSON."""
    path = RESULT.with_name("fuzz.json")
    if not path.is_file():
        return "`python benchmarks/fuzz.py`, not run here."
    bars = json.loads(path.read_text())["bars"]
    return (
        f"`benchmarks/fuzz.py`, {bars['cases']['value']:,} cases, {bars['failures']['value']} failures "
        "([counts](../benchmarks/results/fuzz.json))."
    )


def row(kind, trials):
    """A kind's line of the table, None if it was not tried."""
    mine = [each for each in trials if each["kind"] == kind]
    if not mine:
        return None
    faults = sum(number(each) for each in mine)
    failed = sum(not each["ok"] for each in mine)
    did, holds = KINDS[kind]
    said = "every time" if not failed else f"**not in {failed} of {len(mine)} trials**"
    commits = ", ".join(sorted({each["commit"][:8] for each in mine}))
    return f"| {did} | {faults} in {len(mine)} trials | {holds} | {said} | {commits} |"


def number(each):
    """How many faults a trial met; one that came too late does not count."""
    if "kills" in each:
        return sum(kill["in_time"] for kill in each["kills"])
    return int(each["counts"])


def details(trials):
    """Sentences about what the trials measured."""
    lines = []
    kills = [
        kill for each in trials if each["kind"] == "kill" for kill in each.get("kills", []) if kill["in_time"]
    ]
    if kills:
        recorded = sorted(kill["recorded"] for kill in kills)
        running = sum(bool(kill["running"]) for kill in kills)
        lines.append(
            f"kill -9: {recorded[0]} to {recorded[-1]} stages were recorded at the moment (median "
            f"{median(recorded):g}), and in {running} of {len(kills)} a stage was running."
        )
    terms = [each for each in trials if each["kind"] == "term" and each["counts"]]
    if terms:
        lost = [entry for each in terms for entry in each.get("lost", [])]
        saved = [entry for entry in lost if entry["stopped"] is not None]
        exact = sum(entry["stopped"] == entry["resumed"] for entry in saved)
        worst = max((entry["lost_s"] for entry in lost), default=0.0)
        slowest = max(each["ended_after_s"] for each in terms)
        lines.append(
            f"SIGTERM: {len(saved)} trainings were in their steps; {exact} of them resumed at the very step at "
            f"which they stopped. The most that any stage lost is {worst:g} s (the save interval is 60 s). "
            f"Everything had ended after at most {slowest:g} s."
        )
    outcomes = Counter(
        (each["where"], each["way"], each["outcome"])
        for each in trials
        if each["kind"] == "flip" and "where" in each
    )
    if outcomes:
        lines.append("")
        lines += ["| flipped | then | what happened | times |", "|---|---|---|---:|"]
        lines += [f"| {' | '.join(key)} | {count} |" for key, count in sorted(outcomes.items())]
    said = Counter(
        fault["line"]
        for each in trials
        for fault in each.get("faults", [])
        if fault.get("line") and len(fault["line"]) < 200
    )
    if said:
        lines += ["", "Lines that users saw, the most frequent:", "", "```text"]
        lines += [line for line, _ in said.most_common(8)] + ["```"]
    return lines


HEAD = """# Faults

What `benchmarks/faults.py` did to this pipeline, and what came of it. The page is written by
`python benchmarks/faults.py --render` from [benchmarks/results/faults.json](../benchmarks/results/faults.json), which
has every trial.
"""

TAIL = """
## What is compared

Every file of `data/smoke` and `results/smoke` but `logs/` (what stages print), `scratch/` (states of trainings that
were interrupted) and `provenance/` (wall times, moments, devices); dvc.lock; what `git status` lists, so that no
temporary file is left; and the objects of DVC's cache, each of which must be what its name says. Nothing else may
differ: not by folder, home, time zone, language, hash seed, umask, number of cores. *On another kind of processor*, or
with another release of torch, floating-point results differ; requirements.lock fixes the releases, and the campaign
ran on one machine.

A killed process loses nothing that it had handed to the kernel. A power cut does: artifacts are synced to disk before
they are renamed (artifacts.py), which no trial here tests.

## Tested elsewhere

Two people's conflicting dvc.lock: tests/test_sharing.py. Hostile archives and checkpoints: tests/test_hostile.py.
Malformed params.yaml, archives, claims.yaml and records: {fuzz}
"""


def render():
    """Write docs/faults.md from the JSON."""
    result = json.loads(Path(RESULT).read_text())
    machine, trials = result["machine"], result["trials"]
    rows = [line for kind in KINDS if (line := row(kind, trials))]
    failed = [each for each in trials if not each["ok"]]
    began = (
        ""
        if not result["part"]
        else (
            f" Trials of single faults began with all but {result['part']} random stages finished (`--part`)."
        )
    )
    absent = [kind for kind in KINDS if kind not in {each["kind"] for each in trials}]
    lines = [
        HEAD,
        f"On {machine['cores']} cores ({machine['cpu']}), seed {result['seed']}. The "
        f"undisturbed run took {result['undisturbed_s']:g} s; {result['files_compared']} paths are compared.{began}"
        + (f" **Not run whole yet**: {', '.join(absent)}." if absent else "")
        + "\n",
        "| what was done | faults | what must hold | held | commit |\n|---|---|---|---|---|",
        *rows,
        "",
        *details(trials),
    ]
    if failed:
        lines += [
            "",
            "## What failed",
            "",
            *(f"- {each['kind']} {each['index']}: {why(each)}" for each in failed),
        ]
    PAGE.write_text("\n".join(lines) + "\n" + TAIL.format(fuzz=fuzz()))
    return 0
