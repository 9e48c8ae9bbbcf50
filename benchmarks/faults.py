"""The fault campaign: kill -9, SIGTERM, a full disk and a read-only results folder at random moments of a run.

    python benchmarks/faults.py --kills 20 --terms 8 --full 4 --readonly 4

Every trial begins with a copy of a finished checkout of HEAD at the scale smoke in which λ and a setting of the 2-D problems
have been changed, so that an arm of fine-tuning, the 2-D problems and all that follows have to run again. The run is disturbed, the disturbance is mended, and the same
command is given once more. A trial holds if the disturbed run ended as it should (SIGTERM: exit code 143, or by the signal before it has planned, no process left;
full, read-only: exit code 2 and the reason in words), the second one succeeded, every output then equals that of an
undisturbed run byte for byte, `mlegfn verify` finds them as recorded, and nothing is left to do. Each trial is a line of
WORK/trials.jsonl; the end writes benchmarks/results/faults.json. Mounts need root.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from machine import RESULTS, provenance

REPOSITORY = Path(__file__).resolve().parent.parent
SCALE = "smoke"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option, number in (("kills", 20), ("terms", 8), ("full", 4), ("readonly", 4)):
        parser.add_argument(f"--{option}", type=int, default=number, help=f"trials ({number})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("/tmp/mlegfn-faults"))
    parser.add_argument(
        "--gather", action="store_true", help="only write the result of the trials that there are"
    )
    options = parser.parse_args()
    machine = provenance()
    if options.gather:
        lines = (options.work / "trials.jsonl").read_text().splitlines()
        return write(options, machine, [json.loads(line) for line in lines])
    options.work.mkdir(parents=True, exist_ok=True)
    base, reference, undisturbed = prepare(options.work)
    log, trials = options.work / "trials.jsonl", []
    for kind, count in (
        ("kill", options.kills),
        ("term", options.terms),
        ("full", options.full),
        ("readonly", options.readonly),
    ):
        for index in range(count):
            draw = random.Random(f"{options.seed} {kind} {index}")
            trial = options.work / "trial"
            record = {"kind": kind, "index": index, "commit": machine["commit"]}
            record |= KINDS[kind](base, trial, draw, undisturbed)
            record |= compare(trial, reference)
            record["holds"] = (
                record.pop("as_it_should") and record["second_code"] == 0 and not record["differing"]
            )
            record["holds"] = record["holds"] and record["verified"] and record["nothing_left"]
            trials.append(record)
            with open(log, "a") as file:
                file.write(json.dumps(record) + "\n")
            print(kind, index, "holds" if record["holds"] else record, flush=True)
            remove(trial)
    return write(options, machine, trials, undisturbed_s=undisturbed, files_compared=len(reference))


def write(options, machine, trials, **more):
    """Write benchmarks/results/faults.json; returns the exit code."""
    result = {"machine": machine, "seed": options.seed, "scale": SCALE, **more, "trials": trials}
    (RESULTS / "faults.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(trial["holds"] for trial in trials) else 1


def prepare(work):
    """(a finished checkout, {path: bytes} of every output after the change, seconds that this undisturbed run took)."""
    base, changed = work / "base", work / "changed"
    if not (base / "done").exists():
        remove(base)
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(base)], check=True)
        os.symlink(REPOSITORY / ".venv", base / ".venv")
        assert reproduce(base).wait() == 0, said_of(base).read_text()[-2000:]
        (base / "done").touch()
    remove(changed)
    copy(base, changed)
    began = time.monotonic()
    assert reproduce(changed).wait() == 0, said_of(changed).read_text()[-2000:]
    return base, outputs(changed), round(time.monotonic() - began, 1)


def copy(base, target):
    """A copy of the finished checkout with other settings."""
    subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", str(target)], check=True)
    path = target / "params.yaml"
    head, mark, rest = path.read_text().partition("\n  smoke:\n    machine:")
    for old, new in (
        ("weight: [0.0001, 0.01]", "weight: [0.001, 0.1]"),  # of simple_tbc: its search begins anew
        ("pretrain_steps: 20\n", "pretrain_steps: 60\n"),
    ):
        assert old in rest, old
        rest = rest.replace(old, new, 1)
    path.write_text(head + mark + rest)


def said_of(checkout):
    """Where what `mlegfn reproduce` prints goes: beside the checkout, whose disk may be full."""
    return checkout.with_name(f"{checkout.name}.said")


def reproduce(checkout):
    """`mlegfn reproduce` of a checkout, started."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    with open(said_of(checkout), "w") as said:
        return subprocess.Popen(
            [checkout / ".venv/bin/mlegfn", "reproduce", "--scale", SCALE, "--cores", "2"],
            cwd=checkout,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )


def outputs(checkout):
    """{path: content} of every file that the scale's stages made, but for records of runs (times, machines)."""
    left_out = ("logs", "provenance", "scratch", "parts")
    found = {}
    for folder in (checkout / "results" / SCALE, checkout / "data" / SCALE):
        for path in folder.rglob("*"):
            if path.is_file() and not set(path.relative_to(folder).parts) & set(left_out):
                found[str(path.relative_to(checkout))] = path.read_bytes()
    return found


def compare(trial, reference):
    """Give the command once more, and hold what there is then against the undisturbed run."""
    code = reproduce(trial).wait()
    said = said_of(trial).read_text()
    now = outputs(trial)
    differing = sorted(path for path in {*now, *reference} if now.get(path) != reference.get(path))
    verified = command(trial, "verify", "--scale", SCALE)[0] == 0
    nothing_left = "nothing to do" in command(trial, "reproduce", "--scale", SCALE, "--dry-run")[1]
    logs = "".join(
        path.read_text(errors="replace") for path in (trial / "results" / SCALE / "logs").glob("*@*.log")
    )
    return {
        "second_code": code,
        "second_end": "" if code == 0 else said[-1500:],
        "differing": differing,
        "verified": verified,
        "nothing_left": nothing_left,
        "resumed": logs.count("resuming at step"),
    }


def command(checkout, *words):
    """(exit code, output) of an mlegfn command in a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    done = subprocess.run(
        [checkout / ".venv/bin/mlegfn", *words], cwd=checkout, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def processes(checkout):
    """The numbers of all processes that work in a checkout."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if Path(os.readlink(entry)).is_relative_to(checkout):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def kill(base, trial, draw, undisturbed):
    """kill -9 of every process at once, at a random moment."""
    copy(base, trial)
    after = draw.uniform(1, undisturbed)
    process = reproduce(trial)
    wait(process, after)
    in_time, killed = process.poll() is None, 0
    while running := processes(trial):
        for number in running:
            killed += 1
            with_no_error(os.kill, number, signal.SIGKILL)
        process.poll()
        time.sleep(0.05)
    process.wait()
    return {"after_s": round(after, 2), "in_time": in_time, "killed": killed, "as_it_should": True}


def term(base, trial, draw, undisturbed):
    """SIGTERM to `mlegfn reproduce` alone."""
    copy(base, trial)
    after = draw.uniform(1, undisturbed)
    process = reproduce(trial)
    wait(process, after)
    in_time = process.poll() is None
    process.terminate()
    code = process.wait()
    deadline = time.monotonic() + 10  # a process that has logged its end needs a moment to be gone
    while (left := len(processes(trial))) and time.monotonic() < deadline:
        time.sleep(0.05)
    good = left == 0 and (code in (128 + signal.SIGTERM, -signal.SIGTERM) if in_time else code == 0)
    return {
        "after_s": round(after, 2),
        "in_time": in_time,
        "code": code,
        "left": left,
        "as_it_should": good,
        "said": "" if good else said_of(trial).read_text()[-1500:],
    }


def full(base, trial, draw, undisturbed):
    """A disk that has little more room than the finished checkout; then it grows."""
    trial.mkdir()
    free = draw.randrange(4_000, 900_000)
    size = int(subprocess.check_output(["du", "-s", "--block-size=1", base], text=True).split()[0]) * 11 // 10
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", trial], check=True)
    copy(base, trial)
    used = shutil.disk_usage(trial).used
    subprocess.run(["mount", "-o", f"remount,size={used + free}", trial], check=True)
    process = reproduce(trial)
    code = process.wait()
    said = said_of(trial).read_text()
    subprocess.run(["mount", "-o", "remount,size=2g", trial], check=True)
    said += (trial / "results" / SCALE / "logs" / "snakemake.log").read_text(errors="replace")
    good = (code == 2 and "no space left" in said.lower()) or code == 0
    return {
        "free_bytes": free,
        "base_bytes": size,
        "code": code,
        "as_it_should": good,
        "said": "" if good else said[-1500:],
    }


def readonly(base, trial, draw, undisturbed):
    """The results folder read-only from the start, or from a random moment on."""
    copy(base, trial)
    results = trial / "results"
    subprocess.run(["mount", "--bind", results, results], check=True)
    after = draw.choice([0.0, draw.uniform(1, undisturbed / 2)])
    process = None
    if after:
        process = reproduce(trial)
        wait(process, after)
    while subprocess.run(["mount", "-o", "remount,ro,bind", results], capture_output=True).returncode:
        time.sleep(0.05)
    in_time = (
        process is None or process.poll() is None
    )  # else no moment came in which no file was open for writing
    process = process or reproduce(trial)
    code = process.wait()
    said = said_of(trial).read_text()
    subprocess.run(["mount", "-o", "remount,rw,bind", results], check=True)
    subprocess.run(["umount", results], check=True)
    good = code == 2 and "read-only" in said.lower() if in_time else code == 0
    return {
        "after_s": round(after, 2),
        "in_time": in_time,
        "code": code,
        "as_it_should": good,
        "said": "" if good else said[-1500:],
    }


KINDS = {"kill": kill, "term": term, "full": full, "readonly": readonly}


def wait(process, seconds):
    """Until the time has passed or the process has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def with_no_error(function, *arguments):
    with contextlib.suppress(ProcessLookupError):
        function(*arguments)


def remove(folder):
    """Delete a folder, and unmount what is mounted there."""
    for path in (folder / "results", folder):
        if os.path.ismount(path):
            subprocess.run(["umount", path], check=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
