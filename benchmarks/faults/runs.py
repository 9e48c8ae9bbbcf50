"""Two runs at once, and runs in other surroundings."""

import os

from faults import processes
from faults.checkouts import RUN, Checkout, begun, verdict
from faults.interruptions import until

SURROUNDINGS = (
    {"cores": 1},
    {
        "cores": 2,
        "folder": "x" * 60,
        "umask": 0o077,
        "environment": {"TZ": "Asia/Kolkata", "PYTHONHASHSEED": "1"},
    },
    {"cores": 2, "affinity": 1, "environment": {"LANG": "C", "LC_ALL": "C", "TZ": "America/St_Johns"}},
    {"cores": 3, "folder": "ein Ördner", "environment": {"PYTHONHASHSEED": "4711", "LC_ALL": "C.UTF-8"}},
    {"cores": 2, "environment": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "PYTHONOPTIMIZE": "1"}},
)


def clean(context, index, draw):
    """A whole run with other cores, folder, home, time zone, language, hash seed and umask."""
    around = SURROUNDINGS[index % len(SURROUNDINGS)]
    folder = context.folder / f"clean-{index}" / around.get("folder", "")
    checkout = Checkout(folder, context.venv, around.get("environment")).clone()

    def surround():
        if "umask" in around:
            os.umask(around["umask"])
        if "affinity" in around:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: around["affinity"]])

    code, said, seconds = checkout.run(*RUN, f"CORES={around['cores']}", preexec_fn=surround)
    record = {"surroundings": around, "code": code, "seconds": round(seconds, 1)}
    record |= verdict(checkout, context.reference)
    record["ok"] = code == 0 and record["equal"]
    if not record["ok"]:
        record["said"] = said[-3000:]
    return record


def twice(context, index, draw):
    """Two runs at once: in one checkout (the second must say so), or in two with one cache (both must be right)."""
    if index % 2:
        return one_cache(context, index)
    first = begun(context, f"twice-{index}", draw)
    moment = draw.uniform(0, context.expected_s * 0.9)
    process = first.start()
    alive = until(process, moment)
    told = first.said
    code, said, seconds = first.run()
    record = {"way": "one checkout", "second_s": round(seconds, 1), "second_code": code}
    record["line"] = next((line for line in said.splitlines() if "another" in line), None)
    record |= {"after_s": round(moment, 1), "counts": alive, "first_code": process.wait()}
    record |= verdict(first, context.reference)
    record["ok"] = record["first_code"] == 0 and record["equal"]
    record["ok"] &= not alive or (code != 0 and bool(record["line"]))
    if not record["ok"]:
        record["said"] = told.read_text(errors="replace")[-2000:] + said[-1000:]
    return record


def one_cache(context, index):
    """Two checkouts with one cache, from nothing and at once: both must be right."""
    first = Checkout(context.folder / f"twice-{index}", context.venv).clone()
    second = Checkout(context.folder / f"twice-{index}-second", context.venv).clone()
    shared = first.folder / "cache"
    for each in (first, second):
        (each.root / ".dvc/config.local").write_text(f"[cache]\n    dir = {shared}\n")
    started = [each.start() for each in (first, second)]
    codes = [process.wait() for process in started]
    record = {"way": "two checkouts, one cache", "codes": codes, "differing": []}
    for each in (first, second):
        (each.root / ".dvc/cache").mkdir(exist_ok=True)
        for name in ("files", "runs"):
            if not (each.root / ".dvc/cache" / name).exists():
                (each.root / ".dvc/cache" / name).symlink_to(shared / name)
        record["differing"] += verdict(each, context.reference)["differing"]
        record["equal"] = not record["differing"] and not each.cache()[1]
        if not processes.gone(each.mark, 5):
            record["equal"] = False
    record["ok"] = codes == [0, 0] and record["equal"]
    if not record["ok"]:
        record["said"] = "".join(each.said.read_text(errors="replace")[-1500:] for each in (first, second))
    return record
