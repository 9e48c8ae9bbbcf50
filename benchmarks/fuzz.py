"""Malformed params.yaml, claims.yaml, archives and records by the thousand: never a traceback, never half an artifact.

    python benchmarks/fuzz.py --cases 10000 --seed 0 --json benchmarks/results/fuzz.json

tests/fuzz_campaign.py says what a case is and what must hold of it. The cases are tried in this process, through the
functions that the command line calls; some hundredths of them in a process of their own. They meet a copy of the
checkout with the scale smoke alone, which has run there (``--checkout``: a copy in which it has run already; it is
put back as it was after each case). Exit code 1 if a case failed; the JSON has the first of them.
"""

import argparse
import base64
import os
import random
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from fuzz_campaign import Campaign  # noqa: E402
from machine import finish, provenance  # noqa: E402

# Parts of all cases; the files that are odd as a whole come on top.
SHARES = {
    "archives": 0.62,
    "params_text": 0.14,
    "params_schema": 0.07,
    "claims_text": 0.14,
    "records": 0.02,
    "command_line": 0.01,
}
KEPT = 20  # failures of each kind that the JSON has


def checkout(folder):
    """A copy of this checkout with the scale smoke alone, in which it has run."""
    from conftest import copy_repository

    environment = {name: value for name, value in os.environ.items() if name != "MLEGFN_WARM"}
    made = copy_repository(Path(folder) / "checkout", environment, ["smoke"])
    made.run("mlegfn", "reproduce", "--scale", "smoke", "--cores", "1")
    return made.root


def found_by(campaign, kind, count, seed):
    """Yield (case, faults) of ``count`` cases of a kind."""
    if kind == "params_schema":
        yield from campaign.by_schema("params.yaml", count, seed)
        return
    rng = random.Random(f"{seed}-{kind}")
    for _ in range(count):
        yield getattr(campaign, kind)(rng)


def measure(campaign, kind, found):
    """Count what happened in a kind; prints each failure."""
    campaign.codes.clear()
    started, cases, failures, slowest, before = time.perf_counter(), 0, [], 0.0, time.perf_counter()
    for case, faults in found:
        now = time.perf_counter()
        slowest, before, cases = max(slowest, now - before), now, cases + 1
        if faults:
            text = case if isinstance(case, str) else base64.b64encode(case[:4096]).decode()
            failures.append({"number": cases, "faults": faults, "case": text})
            print(f"{kind} {cases}: {faults}", flush=True)
    seconds = time.perf_counter() - started
    print(f"{kind}: {cases} cases, {len(failures)} failures, {seconds:.0f} s", flush=True)
    return {
        "cases": cases,
        "accepted": campaign.codes[0],
        "refused": campaign.codes[2],
        "failures": len(failures),
        "first_failures": failures[:KEPT],
        "seconds": round(seconds, 1),
        # by_schema tries all of its cases before it yields the first.
        "slowest_seconds": None if kind == "params_schema" else round(slowest, 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "fuzz.json")
    parser.add_argument("--checkout", type=Path, help="a copy of the repository in which smoke alone has run")
    options = parser.parse_args()
    story, started, kinds = provenance(), time.perf_counter(), {}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        campaign = Campaign(options.checkout or checkout(folder))
        kinds["odd_files"] = measure(campaign, "odd_files", campaign.odd_files())
        for kind, share in SHARES.items():
            count = round(share * options.cases)
            kinds[kind] = measure(campaign, kind, found_by(campaign, kind, count, options.seed))
    cases, failures = (sum(kind[what] for kind in kinds.values()) for what in ("cases", "failures"))
    bars = {"cases": (cases, ">=", options.cases), "failures": (failures, "<=", 0)}
    return finish(
        options.json.stem, story, started, bars, options.json.parent, seed=options.seed, kinds=kinds
    )


if __name__ == "__main__":
    sys.exit(main())
