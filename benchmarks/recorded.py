"""How long the committed run of a scale took, from the provenance of its stages.

    python benchmarks/recorded.py --scale gallery

Writes benchmarks/results/recorded-<scale>.json: seconds from the start of the first stage to the end of the last, the
sum of these stages, the longest ones, and the stages that are of other runs (figures that were drawn anew since, or
whose data had come out equal). A run ends with a break of more than a minute; it is the longest that counts. Fails
where a stage has no record, or stages of the run ran on different machines. Whether the machine was idle, no record
says.
"""

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BREAK = 60.0  # seconds in which no stage runs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", required=True)
    scale = parser.parse_args().scale
    records = [
        json.loads(file.read_text())
        for file in sorted((REPOSITORY / "results" / scale / "provenance").glob("*.json"))
    ]
    graph = json.loads((REPOSITORY / "graph.json").read_text())["graph"]
    wanted = {
        f"{kind}@{key}" for kind, items in graph.items() for key in items if items[key]["scale"] == scale
    }
    if not records or (missing := sorted(wanted - {each["stage"] for each in records})):
        what = f"no record of {missing[0]}" if records else "no records"
        sys.exit(f"recorded.py: results/{scale}/provenance: holds {what}")
    records, seconds = max(runs(records), key=lambda run: run[1])
    machines = {json.dumps(each["device"], sort_keys=True) for each in records}
    if len(machines) > 1:
        sys.exit(f"recorded.py: scale {scale}: stages ran on {len(machines)} different machines")
    longest = sorted(records, key=lambda each: -each["wall_s"])[:8]
    result = {
        "scale": scale,
        "commits": sorted({each["commit"] for each in records}),
        "dirty": any(each["dirty"] for each in records),
        "device": records[0]["device"],
        "python": records[0]["python"],
        "torch": records[0]["packages"]["torch"],
        "stages": len(records),
        "stages_of_other_runs": sorted(wanted - {each["stage"] for each in records}),
        "whole_run_s": round(seconds, 1),
        "sum_of_stages_s": round(sum(each["wall_s"] for each in records), 1),
        "longest_s": {each["stage"]: round(each["wall_s"], 1) for each in longest},
        "peak_memory_mib": max(each["peak_memory_mib"] for each in records),
    }
    target = REPOSITORY / "benchmarks" / "results" / f"recorded-{scale}.json"
    target.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(f"{target.relative_to(REPOSITORY)}: {result['whole_run_s'] / 60:.1f} minutes")


def runs(records):
    """[(records of a run, seconds from its begin to its end)], in order of time."""
    found, end = [], 0.0
    for each in sorted(records, key=began):
        if began(each) - end > BREAK:
            found.append([])
        found[-1].append(each)
        end = max(end, began(each) + each["wall_s"])
    return [(run, max(began(each) + each["wall_s"] for each in run) - began(run[0])) for run in found]


def began(record):
    """A record's start, seconds."""
    return datetime.fromisoformat(record["started"]).timestamp()


if __name__ == "__main__":
    main()
