"""Which stages of a scale are done, stale or missing, by content."""

from collections import Counter
from pathlib import Path

from mlegfn import graph


def word(stage):
    """done: as recorded; missing: an output is not there; stale: something that it depends on differs."""
    if not stage.changes:
        return "done"
    return "missing" if not all(Path(out).exists() for out in stage.outs) else "stale"


def show(scale):
    """Print a line for each stage, with what changed; returns the exit code 0."""
    graph.checked(scale)
    from mlegfn.pipeline import engine

    pipeline = engine.ask_dvc(scale)
    scheduled = pipeline.scheduled()
    words = {name: word(stage) for name, stage in pipeline.stages.items()}
    width = max(map(len, words))
    for name, stage in pipeline.stages.items():
        if words[name] == "done":
            after = sorted(pipeline.upstream[name] & scheduled)
            reason = f"follows {after[0]}" + ("…" if len(after) > 1 else "") if after else ""
        else:
            reason = ", ".join(f"{what} ({how})" for what, how in list(stage.changes.items())[:3])
            reason += ", …" if len(stage.changes) > 3 else ""
        print(f"{words[name]:8}{name:{width}}  {reason}".rstrip())
    count = Counter(words.values())
    print(f"{scale}: " + ", ".join(f"{count[w]} {w}" for w in ("done", "stale", "missing")))
    return 0
