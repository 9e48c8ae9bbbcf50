"""The fault campaign: what is killed, filled, made read-only, flipped or run twice costs neither data nor truth.

    python benchmarks/faults.py --kills 50 --terms 20 --full 12 --readonly 6 --flips 120 --twice 3 --clean 5
    python benchmarks/faults.py --resume …      # goes on where it was cut off; kinds of another commit begin anew
    python benchmarks/faults.py --gather        # benchmarks/results/faults.json from the trials of all kinds
    python benchmarks/faults.py --only kill --kills 3
    python benchmarks/faults.py --render        # benchmarks/results/faults.json -> docs/faults.md

Every trial runs in a clone of HEAD of its own. A trial's moment is a function of the seed, its kind and its number.
Each trial is a line of WORK/trials.jsonl as soon as it has ended; at the end they become
benchmarks/results/faults.json and docs/faults.md. Exit code 1, and a list, if anything that must hold does not.
Mounts need root; without it the trials that mount are left out, and the report says so.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

from faults import report
from faults.checkouts import REPOSITORY, Checkout, describe, save
from machine import provenance

# kind of trial: (option, default number, module, function)
KINDS = {
    "kill": ("kills", 50, "interruptions", "kill"),
    "term": ("terms", 20, "interruptions", "term"),
    "full": ("full", 12, "disks", "full"),
    "readonly": ("readonly", 6, "disks", "readonly"),
    "flip": ("flips", 120, "flips", "flip"),
    "twice": ("twice", 3, "runs", "twice"),
    "clean": ("clean", 5, "runs", "clean"),
}


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for kind, (option, number, _, _) in KINDS.items():
        parser.add_argument(f"--{option}", type=int, default=number, help=f"trials of kind {kind} ({number})")
    parser.add_argument("--only", action="append", choices=KINDS, help="only this kind; may be given again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chain", type=int, default=1, help="kills of one clone before it may finish (1)")
    parser.add_argument(
        "--part", type=int, default=0, help="only so many stages are left to run at first (0: from nothing)"
    )
    parser.add_argument("--work", type=Path, default=Path("/tmp/mlegfn-faults"), help="where it runs")
    parser.add_argument("--venv", type=Path, default=REPOSITORY / ".venv")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep WORK's reference and trials, or else the committed trials, do the rest",
    )
    parser.add_argument("--keep", action="store_true", help="keep the clones of trials that failed")
    parser.add_argument("--gather", action="store_true", help="only gather the trials that there are")
    parser.add_argument("--render", action="store_true", help="only write docs/faults.md anew")
    return parser.parse_args()


def main():
    chosen = options()
    if chosen.render:
        return report.render()
    work = chosen.work
    machine = provenance()
    head = machine["commit"]
    trials = work / "trials.jsonl"
    if not chosen.resume and trials.exists():
        sys.exit(f"{trials}: there is a campaign already; --resume goes on with it, or delete {work}")
    work.mkdir(parents=True, exist_ok=True)
    if not trials.exists() and chosen.resume and report.RESULT.exists():  # an earlier machine's
        found = json.loads(report.RESULT.read_text())["trials"]
        trials.write_text("".join(json.dumps(each, sort_keys=True) + "\n" for each in found))
    done = newest([json.loads(line) for line in trials.read_text().splitlines()] if trials.exists() else [])
    if chosen.gather:
        return report.write(done, json.loads((work / "reference.json").read_text()), chosen, machine)
    wanted = set(chosen.only or KINDS)
    # Kinds may be tried one after the other, with what they found mended in between; one kind is of one commit.
    done = [each for each in done if each["commit"] == head or each["kind"] not in wanted]
    base = work / head[:12]
    base.mkdir(exist_ok=True)
    Checkout.source = base / "source.git"
    if not Checkout.source.exists():
        origin = f"file://{REPOSITORY}"
        subprocess.run(["git", "clone", "-q", "--bare", "--depth", "1", origin, Checkout.source], check=True)
    context = SimpleNamespace(folder=base, venv=chosen.venv.resolve(), chain=chosen.chain, part=chosen.part)
    undisturbed(context, longer="term" in wanted)
    known = {(each["kind"], each["index"]) for each in done}
    for kind, (option, _, module, function) in KINDS.items():
        if (chosen.only and kind not in chosen.only) or (module == "disks" and os.geteuid() != 0):
            continue
        trial = getattr(importlib.import_module(f"faults.{module}"), function)
        index = counted = 0
        while counted < getattr(chosen, option):
            if (kind, index) in known:
                record = next(each for each in done if (each["kind"], each["index"]) == (kind, index))
            else:
                record = one(trial, context, kind, index, chosen, head)
                done.append(record)
                with open(trials, "a") as file:
                    file.write(json.dumps(record, sort_keys=True) + "\n")
            index, counted = index + 1, counted + record["counts"]
    if server := getattr(context, "server", None):
        server.terminate()
        server.wait()
    return report.write(done, context.reference, chosen, machine)


def newest(trials):
    """Of each kind the trials of the commit that it was tried at last."""
    last = {each["kind"]: each["commit"] for each in trials}
    return [each for each in trials if each["commit"] == last[each["kind"]]]


def one(trial, context, kind, index, chosen, head):
    """One trial as a record; the campaign's own mistakes are failures too."""
    draw, begin = random.Random(f"{chosen.seed}/{kind}/{index}"), time.monotonic()
    record = {"kind": kind, "index": index, "commit": head, "counts": True}
    try:
        record |= trial(context, index, draw)
    except Exception:
        record |= {"ok": False, "campaign": traceback.format_exc()}
    record["trial_s"] = round(time.monotonic() - begin, 1)
    if record["ok"] or not chosen.keep:
        for left in (context.folder / f"{kind}-{index}", *context.folder.glob(f"{kind}-{index}-*")):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    print(f"{kind} {index}: {'ok' if record['ok'] else 'FAILED'}, {record['trial_s']:.0f} s", flush=True)
    return record


def undisturbed(context, longer):
    """The run that nobody disturbs and, if asked for, another whose last segment of pretraining takes some seconds."""
    context.finished = Checkout(context.folder / "reference", context.venv)
    file = context.folder / "reference.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    if "run" not in found:
        context.finished.remove()
        code, said, seconds = context.finished.clone().run()
        if code != 0:
            sys.exit(f"the undisturbed run ended with {code}:\n{said}")
        _, _, again = context.finished.run()
        found["run"] = describe(context.finished, seconds) | {"again_s": again}
        save(file, found)
    if longer and "longer" not in found:
        found["longer"] = with_a_longer_segment(context)
        save(file, found)
    context.reference, context.longer = found["run"], found.get("longer")
    save(context.folder.parent / "reference.json", found["run"])
    seconds, again, stages = (context.reference[name] for name in ("seconds", "again_s", "stages"))
    context.expected_s = again + (seconds - again) * context.part / stages if context.part else seconds
    print(f"undisturbed: {context.reference['seconds']:.0f} s", flush=True)


def with_a_longer_segment(context):
    """The undisturbed run of the settings ``LONGER``, and how long its segment took."""
    from faults.interruptions import LONGER

    checkout = context.finished.duplicate(context.folder / "longer")
    checkout.edit("params.yaml", *LONGER)
    code, said, seconds = checkout.run()
    if code != 0:
        sys.exit(f"the run with a longer segment ended with {code}:\n{said}")
    log = (checkout.root / "results/smoke/logs/pretrain@smoke-400.log").read_text()
    segment = float(log.rsplit(" after ", 1)[1].split()[0])
    found = describe(checkout, seconds) | {"segment_s": segment}
    checkout.remove()
    return found


if __name__ == "__main__":
    sys.exit(main())
