"""Which stages of a scale are done, running or stale, and why; how long is left."""

import re

from reproduction import params as settings
from reproduction.workflow import dvc, running
from reproduction.workflow.progress import in_words, remaining
from reproduction.workflow.provenance import wall_times
from reproduction.workflow.reproduce import available_cores

__all__ = ["show"]


def show(scale):
    """Print a line for each stage; what is announced is what `mlegfn reproduce` runs. Returns the exit code 0."""
    settings.load().check_scale(scale)
    plan = dvc.make_plan(scale)
    now = running.stages(plan.stages)
    width = max(map(len, plan.stages))
    for name in plan.stages:
        if name in now:
            word, text = "running", so_far(now[name])
        elif name in plan.stale:
            word, text = (
                ("stale" if name in plan.changes else "follows"),
                plan.why(name).removeprefix("follows "),
            )
        else:
            word, text = "done", ""
        print(f"{word:8}{name:{width}}  {text}".rstrip())
    changed = [name for name in plan.stale if name in plan.changes]
    count = f"{len(plan.stages) - len(plan.stale)} done, {len(changed)} stale"
    count += f", {len(plan.stale) - len(changed)} follow" if len(plan.stale) > len(changed) else ""
    print(f"{scale}: {count}" + time_left(plan, now))
    return 0


def so_far(stage):
    """How long a stage has run, and the last line that it printed."""
    since = "" if stage.seconds is None else f"for {in_words(stage.seconds)}"
    last = re.sub(r"\|[^|]*\|", "", stage.last_line)  # a progress bar's bar
    return "  ".join(part for part in (since, last[:100]) if part)


def time_left(plan, now):
    """``; about 3 min left``, from the stages' recorded wall times; "" where there are none, or nothing is to do."""
    elapsed = {name: stage.seconds or 0.0 for name, stage in now.items()}
    waiting = [name for name in plan.stale if name not in now]
    cores = available_cores()
    seconds = remaining(waiting, elapsed, cores, wall_times(plan.stages))
    return (
        f"; about {in_words(seconds)} on {cores} core(s)" if seconds is not None and (waiting or now) else ""
    )
