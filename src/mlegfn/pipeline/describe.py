"""`mlegfn provenance`: how an artifact was made, for people and as JSON."""

import json
import os
import shlex

from mlegfn.pipeline import engine, provenance
from mlegfn.pipeline.recorded import Lock


def show(artifact, as_json=False, follow=False):
    """Print the provenance of a path or a stage; ``follow``: of everything that it came from, too. Returns 0."""
    found = collect(artifact, follow)
    if as_json:
        print(json.dumps(found, indent=1, sort_keys=True))
        return 0
    print("\n".join(heading(found) + lines(found["record"]) + made_of(found)))
    for name, record in found.get("records", {}).items():
        if name != found["stage"]:
            print("\n".join(["", name, *lines(record)]))
    return 0


def collect(artifact, follow=False):
    """A dict: artifact, stage, on_disk ({output: how it is}), record, made_by ({input: the stages that make it,
    with the commit and whether that is recorded}); with ``follow`` records, of all stages up to the data."""
    if "@" in artifact and not os.path.exists(artifact):
        name, output = artifact, None
        engine.scale_of(name)
    else:
        name, output = provenance.output_of(artifact)
    lock, pipeline = Lock(), engine.read()
    record = provenance.of_stage(name, lock)
    known = {name: record}

    def of(other):
        if other not in known:
            known[other] = provenance.of_stage(other, lock)
        return known[other]

    makers = {path: producers(pipeline, path) for path in record["inputs"]}
    found = {
        "artifact": artifact,
        "stage": name,
        "output": output,
        "on_disk": {
            path: state(path, recorded)
            for path, recorded in record["outputs"].items()
            if output in (None, path)
        },
        "record": record,
        "made_by": {
            path: {maker: {key: of(maker)[key] for key in ("commit", "dirty", "recorded")} for maker in names}
            for path, names in makers.items()
            if names
        },
    }
    if follow:
        records, waiting = found.setdefault("records", {}), [name]
        while waiting:
            if (each := waiting.pop(0)) not in records:
                records[each] = of(each)
                waiting += [maker for path in records[each]["inputs"] for maker in producers(pipeline, path)]
    return found


def producers(pipeline, path):
    """The stages that make an input, or what lies in it."""
    return list(
        dict.fromkeys(pipeline.producers[p] for p in pipeline.expand(path) if p in pipeline.producers)
    )


def state(path, recorded):
    """Whether what lies at ``path`` now is what the record says."""
    found = provenance.hash_of(path)
    return (
        "missing" if found is None else "as recorded" if found == recorded else f"differs: its MD5 is {found}"
    )


def heading(found):
    """The artifact, and whether it is what the record is about."""
    text = [found["artifact"], row("stage", found["stage"])]
    for path, how in found["on_disk"].items():
        part = "" if path == found["artifact"] or found["output"] is None else " (which it is part of)"
        text.append(row("output", f"{path}{part}: {how}"))
    return text


def row(title, value):
    return f"  {title:12}{value}"


def commit_of(record):
    """A record's commit in a few words."""
    if record["commit"] is None:
        return "no commit"
    if not record["recorded"]:
        return f"{record['commit'][:12]}, which put it into dvc.lock"
    return record["commit"][:12] + (", with changes that it does not have" if record["dirty"] else "")


def lines(record):
    """All that a record knows."""
    text = [row("command", record["command"]), row("commit", commit_of(record))]
    if record["recorded"]:
        device = record["device"]
        memory = f", {device['peak_memory_mib']:g} MiB of its own" if "peak_memory_mib" in device else ""
        cores = f"{device['cores']} core(s), {device['machine']}"
        text += [
            row("started", record["started"]),
            row("wall time", f"{record['wall_s']:.1f} s"),
            row("peak memory", f"{record['peak_memory_mib']:.0f} MiB"),
            row("device", f"{device['kind']}: {device['name']}{memory}; {cores}"),
        ]
    else:
        text.append(row("", "reconstructed from dvc.lock and git: no record of the run itself belongs to it"))
    text += listed("seeds", record["seeds"])
    text += listed("parameters", record["parameters"])
    text += listed("outputs", record["outputs"])
    text += listed("inputs", record["inputs"])
    if record["recorded"]:
        versions = [f"{name} {version}" for name, version in sorted(record["packages"].items())]
        text.append(row("packages", f"Python {record['python']}, " + ", ".join(versions)))
        text.append(row("", f"SHA-256 of requirements.lock: {record['requirements_lock']}"))
    return text


def listed(title, values):
    """A line for each value, the title before the first."""
    return [
        row("" if i else title, f"{key}  {value if isinstance(value, str) else json.dumps(value)}")
        for i, (key, value) in enumerate((values or {}).items())
    ]


def made_of(found):
    """Which stages made the inputs, and the command that says more of them."""
    text = []
    for path, makers in found["made_by"].items():
        by_commit = {}
        for name, maker in makers.items():
            by_commit.setdefault(commit_of(maker), []).append(name)
        for commit, names in by_commit.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            text.append(row("" if text else "made by", f"{path}  {names[0]}{more} ({commit})"))
    if text and "records" not in found:
        text.append(row("", f"all of them: mlegfn provenance --all {shlex.quote(found['artifact'])}"))
    return text
