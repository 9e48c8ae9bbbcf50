"""A disk that fills up, a limit on files, places that are read-only; then space again, and the run goes on."""

import contextlib
import os
import re
import resource
import signal
import subprocess

from faults import processes
from faults.checkouts import begun
from faults.interruptions import finish, until
from faults.whole import harm

MIB = 1 << 20
CAUSE = re.compile(
    r"no space left|No space left|File too large|too large|[Rr]ead-only|not permitted|failed to read or write"
)
# Where the small disk lies, the bytes that it has beside what is there at first (from, to), and enough of it.
PLACES = {
    "results/smoke": (0.2 * MIB, 11 * MIB, 64 * MIB),
    ".dvc/cache": (0.1 * MIB, 7.5 * MIB, 64 * MIB),
    "everything": (0.2 * MIB, 20 * MIB, 256 * MIB),
    "tmp": (0, 0, 64 * MIB),
    "file size": (0.005 * MIB, 0.7 * MIB, None),
}
READ_ONLY = ("results/smoke", "data", ".dvc/cache", ".dvc", ".", "tmp", "home")
FAULTS_A_CLONE = 4


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


@contextlib.contextmanager
def small_disk(path):
    """A tmpfs at ``path`` with what lies there; yields a function that sets its size in bytes."""
    path.mkdir(parents=True, exist_ok=True)
    there = subprocess.run(["tar", "-C", path, "-c", "."], check=True, capture_output=True).stdout
    mount("-t", "tmpfs", "-o", f"size={512 * MIB}", "tmpfs", path)
    try:
        subprocess.run(["tar", "-C", path, "-x"], input=there, check=True)
        yield lambda size: mount("-o", f"remount,size={max(4096, int(size))}", path)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def used(path):
    """The bytes that the file system at ``path`` holds."""
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def failed_well(checkout, context, code, said):
    """The record of a run that had to fail: one line that says why, code 2, and nothing made before is harmed."""
    inner = re.search(r"^make: \*\*\* .* Error (\d+)", said, re.MULTILINE)
    record = {
        "code": int(inner[1]) if inner else code,
        "line": next((line.strip() for line in said.splitlines() if CAUSE.search(line)), None),
        "traceback": "Traceback" in said,
        "harm": harm(checkout, context.reference),
        "recorded": len(checkout.recorded()),
    }
    record["ok"] = (
        record["code"] == 2 and bool(record["line"]) and not record["traceback"] and not record["harm"]
    )
    if not record["ok"]:
        record["said"] = said[-3000:]
    return record


def full(context, index, draw):
    """One clone, one place; the disk there is too small, then larger and too small again …, then large enough."""
    place = list(PLACES)[index % len(PLACES)]
    low, high, enough = PLACES[place]
    checkout = begun(context, f"full-{index}", draw)
    if context.part and enough:
        high *= context.part / context.reference["stages"]
    sizes = sorted(draw.uniform(low, max(low, high)) for _ in range(FAULTS_A_CLONE if high else 1))
    record = {"place": place, "faults": []}
    outside = {"everything": checkout.folder, "tmp": checkout.folder / "tmp"}
    if enough is None:
        for size in sizes:
            limit = (int(size), int(size))
            code, said, _ = checkout.run(
                preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            )
            note(record, checkout, context, code, said, int(size))
        finish(context, checkout, record, [(checkout.recorded(), checkout.stages_run())])
        return summed(record)
    folder = outside.get(place, checkout.root / place)
    with small_disk(folder) as resize:
        at_first = used(folder)
        for size in sizes:
            resize(at_first + size)
            if place == "tmp":
                with contextlib.suppress(OSError), open(folder / "filler", "wb") as file:
                    file.write(bytes(MIB))
            code, said, _ = checkout.run()
            note(record, checkout, context, code, said, int(size))
        resize(at_first + enough)
        (folder / "filler").unlink(missing_ok=True)
        finish(context, checkout, record, [(checkout.recorded(), checkout.stages_run())])
    return summed(record)


def readonly(context, index, draw):
    """One clone, stopped at a random moment; then one place after the other is read-only; then it goes on."""
    checkout = begun(context, f"readonly-{index}", draw)
    moment = draw.uniform(0, context.expected_s)
    process = checkout.start()
    until(process, moment)
    processes.send([process.pid], signal.SIGTERM)
    processes.gone(checkout.mark, 90)
    process.wait()
    record = {"stopped_s": round(moment, 1), "faults": []}
    places = list(READ_ONLY)
    draw.shuffle(places)
    for place in places[:FAULTS_A_CLONE]:
        path = (checkout.folder if place in ("tmp", "home") else checkout.root) / place
        path.mkdir(parents=True, exist_ok=True)
        mount("--bind", path, path)
        try:
            mount("-o", "remount,bind,ro", path)
            code, said, _ = checkout.run()
        finally:
            subprocess.run(["umount", "-l", path], check=True)
        note(record, checkout, context, code, said, place)
    finish(context, checkout, record, [(checkout.recorded(), checkout.stages_run())])
    return summed(record)


def note(record, checkout, context, code, said, what):
    """Keep what a run under a fault did; one that ended well met no fault, and must be right."""
    if code == 0:
        record["faults"].append({"what": what, "code": 0, "ok": not harm(checkout, context.reference)})
    else:
        record["faults"].append({"what": what, **failed_well(checkout, context, code, said)})


def summed(record):
    """A trial counts as many faults as made a run fail."""
    record["counts"] = sum(each["code"] != 0 for each in record["faults"])
    record["ok"] = record["ok"] and all(each["ok"] for each in record["faults"])
    return record
