"""Which stages of a scale are done, running, waiting, stale or missing, by content, and how long is left.

It reads while a run is on: DVC's lock, which one stage after the other then takes, is not asked for.
"""

import re
from collections import Counter
from pathlib import Path

from mlegfn import graph
from mlegfn.pipeline import running
from mlegfn.pipeline.progress import in_words, remaining
from mlegfn.pipeline.provenance import wall_times

WORDS = ("done", "running", "waiting", "stale", "missing")
ATTEMPTS = 5  # at reading what changes meanwhile


def word(stage):
    """done: as recorded; missing: an output is not there; stale: something that it depends on differs."""
    if not stage.changes:
        return "done"
    return "missing" if not all(Path(out).exists() for out in stage.outs) else "stale"


def show(scale):
    """Print a line for each stage, with what changed or how far it is; returns the exit code 0."""
    graph.checked(scale)
    pipeline = look(scale)
    scheduled = pipeline.scheduled()
    now = running.stages(scale, pipeline.stages)
    on = running.held(f".snakemake/{scale}.lock")  # a Snakemake that runs this scale holds it
    words = {name: word(stage) for name, stage in pipeline.stages.items()}
    words |= dict.fromkeys(scheduled, "waiting") if on else {}
    words |= dict.fromkeys(now, "running")
    width = max(map(len, words))
    for name, stage in pipeline.stages.items():
        if name in now:
            text = so_far(now[name])
        elif words[name] in ("done", "waiting") and not stage.changes:
            after = sorted(pipeline.upstream[name] & scheduled)
            text = f"follows {after[0]}" + ("…" if len(after) > 1 else "") if after else ""
        else:
            text = ", ".join(f"{what} ({how})" for what, how in list(stage.changes.items())[:3])
            text += ", …" if len(stage.changes) > 3 else ""
        print(f"{words[name]:8}{name:{width}}  {text}".rstrip())
    count = Counter(words.values())
    shown = [f"{count[w]} {w}" for w in WORDS if count[w] or w not in ("running", "waiting")]
    print(f"{scale}: " + ", ".join(shown) + time_left(scale, pipeline, scheduled - set(now), now, on))
    return 0


def look(scale):
    """The Pipeline as it is, read without DVC's lock."""
    from dvc.exceptions import DvcException

    from mlegfn.pipeline import engine

    for attempt in range(ATTEMPTS):
        try:
            return engine.ask_dvc(scale, wait=False)
        except (OSError, DvcException) as error:  # a file that has been deleted since it was listed, say
            if attempt == ATTEMPTS - 1:
                raise engine.unreadable(error) from None


def so_far(stage):
    """How long a stage has run, and the last line that it printed."""
    since = "" if stage.seconds is None else f"for {in_words(stage.seconds)}"
    said = re.sub(r"\|[^|]*\|", "", stage.said)  # a progress bar's bar
    return "  ".join(part for part in (since, said[:100]) if part)


def time_left(scale, pipeline, waiting, now, on):
    """``; about 3 min left``, from the stages' recorded wall times; "" where there are none, or nothing is to do."""
    elapsed = {name: stage.seconds or 0.0 for name, stage in now.items()}
    cores = provided(scale) if on else max(1, len(now))
    seconds = remaining(waiting, elapsed, cores, wall_times(pipeline.stages))
    if seconds is None or not (waiting or now):
        return ""
    return f"; about {in_words(seconds)} left" + (f" on {cores} core(s)" if not on else "")


def provided(scale):
    """How many cores the Snakemake that runs this scale has, by its log; 1 where that does not say."""
    try:
        said = Path("results", scale, "logs", "snakemake.log").read_text(errors="replace")
    except OSError:
        return 1
    found = re.findall(r"^Provided cores: (\d+)", said, re.MULTILINE)
    return max(1, int(found[-1])) if found else 1
