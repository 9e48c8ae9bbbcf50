"""kill -9 and kill -TERM at random moments of `make reproduce SCALE=smoke`."""

import re
import signal
import subprocess
import time

from faults import processes
from faults.checkouts import begun, verdict
from faults.whole import harm

INTERVAL = 60.0  # seconds: save_every_minutes of the scale smoke
LONGER = ("stop: 12", "stop: 400")  # steps of the segment that aimed interruptions hit


def until(process, moment):
    """Wait ``moment`` seconds; False if the process ends before."""
    try:
        process.wait(moment)
        return False
    except subprocess.TimeoutExpired:
        return True


def kill(context, index, draw):
    """One clone, killed as often as ``context.chain`` says, each time at a random moment of what is left."""
    checkout = begun(context, f"kill-{index}", draw)
    moments = sorted(draw.uniform(0, context.expected_s) for _ in range(context.chain))
    record, states, before = {"kills": []}, [], None
    for moment in moments:
        wait = moment if before is None else context.reference["again_s"] + moment - before
        process = checkout.start()
        in_time = until(process, wait)
        recorded = checkout.recorded()
        running = [line for line in processes.command_lines(checkout.mark).values() if " repro " in line]
        killed = processes.kill_all(checkout.mark)
        code, before = process.wait(), moment
        states.append((checkout.recorded(), checkout.stages_run()))
        record["kills"].append(
            {
                "after_s": round(wait, 2),
                "in_time": in_time,
                "processes": killed,
                "running": sorted({line.split()[-1] for line in running}),
                "code": code,
                "recorded": len(recorded),
                "records_lost": sorted(set(recorded) - set(states[-1][0])),
                "harm": harm(checkout, context.reference),
            }
        )
    finish(context, checkout, record, states)
    record["ok"] = record["ok"] and not any(each["records_lost"] or each["harm"] for each in record["kills"])
    record["counts"] = all(each["in_time"] for each in record["kills"])
    return record


def finish(context, checkout, record, states, reference=None):
    """Run on to the end: code 0 and every byte the reference's. What was recorded must not have run again.

    states: (recorded entries, how often each stage had begun) after each interruption.
    """
    code, said, seconds = checkout.run()
    runs = checkout.stages_run()
    again = sorted({n for recorded, then in states for n in recorded if runs.get(n, 0) > then.get(n, 0)})
    record |= {"code": code, "seconds": round(seconds, 1), "ran_again": again}
    record |= verdict(checkout, reference or context.reference)
    record["ok"] = code == 0 and record["equal"] and not again and "Traceback" not in said
    if not record["ok"]:
        record["said"] = said[-3000:]


def term(context, index, draw):
    """SIGTERM at a random moment, to the whole tree, to make alone, or to mlegfn alone; then run on.

    Every other one is aimed: it comes while a training of 400 steps runs, and the saved state is compared.
    """
    to = draw.choice(("tree", "make", "mlegfn"))
    if index % 2:
        checkout = context.finished.duplicate(context.folder / f"term-{index}")
        checkout.edit("params.yaml", *LONGER)
        reference = context.longer
        log = checkout.root / "results/smoke/logs/pretrain@smoke-400.log"
    else:
        checkout = begun(context, f"term-{index}", draw)
        reference, log = context.reference, None
    fraction, finished = draw.random(), checkout.recorded()
    record = {"to": to, "aimed": log is not None}
    process = checkout.start()
    if log is None:
        alive = until(process, fraction * context.expected_s)
    else:
        while not log.exists() and process.poll() is None:
            time.sleep(0.02)
        alive = until(process, fraction * reference["segment_s"])
    lines = processes.command_lines(checkout.mark)
    begin = time.monotonic()
    chosen = {
        "tree": list(lines),
        "make": [process.pid],
        "mlegfn": [pid for pid, line in lines.items() if "mlegfn reproduce" in line and "make " not in line],
    }[to] or [process.pid]
    processes.send(chosen, signal.SIGTERM)
    try:
        record["first_code"] = process.wait(90)
    except subprocess.TimeoutExpired:
        record["first_code"] = None
    record["ended_after_s"] = round(time.monotonic() - begin, 2)
    # Who has started it takes it for stopped from here on.
    if not (clean := processes.gone(checkout.mark, 2)):
        record["left_running"] = list(processes.command_lines(checkout.mark).values())
        processes.kill_all(checkout.mark)
        process.wait()
    said = checkout.said.read_text(errors="replace")
    record |= {"moment": round(fraction, 4), "in_time": alive}
    record["traceback"] = "Traceback" in said
    # What has its old settings' record has to run again.
    recorded = {n: e for n, e in checkout.recorded().items() if not log or e != finished.get(n)}
    finish(context, checkout, record, [(recorded, checkout.stages_run())], reference)
    record["lost"], record["counts"] = lost(checkout), alive
    fine = all(e["stopped"] == e["resumed"] and e["lost_s"] <= INTERVAL for e in record["lost"])
    record["ok"] = record["ok"] and clean and fine and not record["traceback"]
    if record["traceback"]:
        record["said"] = said[-3000:]
    return record


def lost(checkout):
    """What the stages that were asked to stop lost: the step at which each stopped and resumed, or its seconds."""
    entries = []
    for log in (checkout.root / "results/smoke/logs").glob("*@*.log"):
        attempts = log.read_text(errors="replace").split("\n=== 2")[1:]
        for attempt, following in zip(attempts, attempts[1:], strict=False):
            if end := re.search(r"^=== exit 75 after ([\d.]+) s", attempt, re.MULTILINE):
                stopped = re.search(r"asked to stop at step (\d+); the state is saved", attempt)
                resumed = re.search(r"resuming at step (\d+) from", following)
                entries.append(
                    {
                        "stage": log.stem,
                        "stopped": int(stopped[1]) if stopped else None,
                        "resumed": int(resumed[1]) if resumed else None,
                        "lost_s": 0.0 if stopped and resumed and stopped[1] == resumed[1] else float(end[1]),
                    }
                )
    return entries
