"""graph.json: the items that dvc.yaml's stages loop over, derived from params.yaml.

A DVC ``foreach`` loops over one mapping and cannot form scale × checkpoint × arm × seed, nor say "the
checkpoint before this one". So this module writes the products out, and dvc.yaml turns each item into a
stage: ``graph.finetune["digits-600-tbc-0"]`` becomes ``finetune@digits-600-tbc-0``.
"""

import json
import os
import re
from pathlib import Path

from mlegfn import families, gallery
from mlegfn.artifacts import write_text
from mlegfn.errors import UserError

GRAPH = "graph.json"
# A dependency in the place of one that a scale does not have: a file that never changes.
NOTHING = "src/mlegfn/__init__.py"

# Every stage of dvc.yaml. One that a scale has once: the blocks of params.yaml without which it has not. The others,
# None, are looped over below.
STAGES = {
    "fetch": None,
    "pretrain": None,
    "finetune": None,
    "nll": None,
    "trajectories": None,
    "quality": None,
    "planar": None,
    "figures": ("data", "planar"),
    "tables": ("data", "planar"),
    "verdict": ("data", "planar"),
    "family": None,
    "families": ("families",),
    "discrete": None,
    "discrete_report": ("discrete",),
    "divergence": None,
    "gradients": None,
    "alpha": ("divergences",),
    "divergences_report": ("divergences",),
    "station": None,
    "station_figure": None,
    "gallery_animation": None,
    "gallery_report": ("gallery",),
}


# Minutes after which a cluster may stop a stage; it saves first and is tried again (profiles/slurm), so that too
# little costs a wait in the queue, and too much only makes the queue longer. A rule of thumb by kind, not measured.
RUNTIME = {
    "gpu": {"pretrain": 240, "finetune": 240, "nll": 120, "trajectories": 60, "quality": 60},
    "cpu": {"pretrain": 480, "finetune": 480, "nll": 240, "trajectories": 60, "quality": 60},
}


def derive(params):
    """``{stage: {key: item}}`` for every scale of ``params``; keys and items as dvc.yaml uses them."""
    graph = {stage: {} for stage in STAGES}
    for name, scale in params.scales.items():
        _check_inputs(name, scale)
        _add_scale(graph, name, scale)
    return graph


def _check_inputs(name, scale):
    """What a user brings must not lie where the pipeline writes, nor around it: the stage would follow itself."""
    brought = [("data.path", scale.data and scale.data.path)]
    brought += [("quality.inception", scale.quality and scale.quality.inception)]
    for key, given in brought:
        if given is None:
            continue
        there = os.path.realpath(os.path.expanduser(given))
        for made in map(os.path.realpath, ("results", f"data/{name}")):
            if os.path.commonpath([there, made]) in (there, made):
                raise UserError(
                    f"params.yaml: scales.{name}.{key}: {given!r} overlaps with {os.path.relpath(made)}, which the "
                    "pipeline writes; put what you bring elsewhere"
                )


def _add_scale(graph, name, scale):
    """The stages of the experiments that the scale has."""
    if scale.data is not None:
        # DVC hashes the user's archive too; other sources need no file beside the code.
        graph["fetch"][name] = {"scale": name, "input": scale.data.path or NOTHING}
    if scale.has_images:
        _add_images(graph, name, scale)
    if scale.planar is not None:
        for problem in scale.planar.problems:
            graph["planar"][f"{name}-{problem}"] = {"scale": name, "problem": problem}
    if scale.families is not None:
        _add_families(graph, name, scale.families)
    if scale.discrete is not None:
        for problem in scale.discrete.problems:
            graph["discrete"][f"{name}-{problem}"] = {"scale": name, "problem": problem}
    if scale.divergences is not None:
        for task in scale.divergences.tasks.there():
            graph["divergence"][f"{name}-{task}"] = {"scale": name, "task": task}
        for task in scale.divergences.gradients:
            graph["gradients"][f"{name}-{task}"] = {"scale": name, "task": task}
    if scale.gallery is not None:
        _add_gallery(graph, name, scale.gallery)
    for stage, blocks in STAGES.items():
        if blocks and all(getattr(scale, block) is not None for block in blocks):
            graph[stage][name] = {"scale": name}


def _add_families(graph, name, settings):
    """A stage a family, so that only what changed runs again."""
    for family in settings.names:
        own = f"settings.{family}" if family in settings.settings else "default"
        shared, extended = families.sources(family)
        graph["family"][f"{name}-{family}"] = {
            "scale": name,
            "family": family,
            "settings": own,
            # A stage has as many dependencies as the others of its kind, so files that change nothing stand in.
            "shared": shared or NOTHING,
            "extended": extended or "src/mlegfn/errors.py",
        }


def _add_gallery(graph, name, settings):
    """A stage a station, and one that draws it; the spiral moves, too."""
    for station in settings.names:
        shared, reads, images = gallery.sources(station)
        item = {"scale": name, "station": station, "images": f"data/{name}" if images else NOTHING}
        for k in range(gallery.MOST):
            read = reads[k] if k < len(reads) else None
            item[f"shared{k}"] = shared[k] if k < len(shared) else NOTHING
            item[f"read{k}"] = f"results/{name}/gallery/{read}.safetensors" if read else NOTHING
            item[f"settings{k}"] = read or station
        graph["station"][f"{name}-{station}"] = item
        graph["station_figure"][f"{name}-{station}"] = {"scale": name, "station": station}
    if settings.spiral is not None:
        graph["gallery_animation"][name] = {"scale": name}


def _add_images(graph, name, scale):
    checkpoints = f"results/{name}/checkpoints"
    common = (
        {"scale": name, "gpu": 1, "mem_mb": 16000}
        if scale.accelerator == "gpu"
        else {"scale": name, "gpu": 0, "mem_mb": 2000}
    )
    device = {kind: {**common, "runtime": minutes} for kind, minutes in RUNTIME[scale.accelerator].items()}

    resume = f"data/{name}/dataset.json"
    for step in scale.pretrain.segments:
        graph["pretrain"][f"{name}-{step}"] = {**device["pretrain"], "step": step, "resume": resume}
        resume = f"{checkpoints}/pretrain-{step}"
        _add_nll(graph, device["nll"], f"baseline-{step}", resume, f"--step {step} --arm baseline")

    for step in scale.pretrain.checkpoints:
        for arm in scale.finetune.arms:
            # DVC interpolates no lists, so an item names the settings that only its arm reads, and the
            # arms without any repeat one that dvc.yaml lists anyway.
            own = ("anchor", "consistency") if arm == "tbc" else ("steps", "steps")
            for seed in scale.finetune.seeds:
                run = f"{step}-{arm}-{seed}"
                graph["finetune"][f"{name}-{run}"] = {
                    **device["finetune"],
                    "step": step,
                    "arm": arm,
                    "seed": seed,
                    "anchor": own[0],
                    "weight": own[1],
                }
                _add_nll(
                    graph,
                    device["nll"],
                    run,
                    f"{checkpoints}/finetune-{run}",
                    f"--step {step} --arm {arm} --seed {seed}",
                )

    shown = scale.trajectories
    graph["trajectories"][name] = {
        **device["trajectories"],
        "model": f"{checkpoints}/finetune-{shown.checkpoint}-{shown.arm}-{shown.finetune_seed}",
    }
    _add_quality(graph, device["quality"], scale)


def _add_nll(graph, device, run, model, select):
    graph["nll"][f"{device['scale']}-{run}"] = {**device, "run": run, "model": model, "select": select}


def _add_quality(graph, device, scale):
    """The baseline at the checkpoint that Figure 3 shows, and each arm fine-tuned from there with its seed."""
    name, step, seed = device["scale"], scale.trajectories.checkpoint, scale.trajectories.finetune_seed
    for arm in ("baseline", *scale.finetune.arms):
        run = f"baseline-{step}" if arm == "baseline" else f"{step}-{arm}-{seed}"
        tuned = arm != "baseline"
        graph["quality"][f"{name}-{run}"] = {
            **device,
            "run": run,
            "model": f"results/{name}/checkpoints/" + (f"finetune-{run}" if tuned else f"pretrain-{step}"),
            "select": f"--step {step} --arm {arm}" + (f" --seed {seed}" if tuned else ""),
            # A fine-tune is read at its last point; the baseline repeats what dvc.yaml lists anyway.
            "point": "finetune.evaluate_at" if tuned else "quality",
            # DVC hashes the Inception weights too, if there are any.
            "input": scale.quality.inception or NOTHING,
        }


def render(params):
    """The text of graph.json, an item a line. JSON, because DVC reads it a hundred times faster than YAML."""
    stages = []
    for stage, items in derive(params).items():
        lines = ",\n".join(f"   {json.dumps(key)}: {json.dumps(item)}" for key, item in items.items())
        stages.append(f"  {json.dumps(stage)}: {{\n{lines}\n  }}")
    return '{\n "graph": {\n' + ",\n".join(stages) + "\n }\n}\n"


def _settings():
    """params.yaml's. Imported late: DVC's processes only ask for names here, and building the models of all settings
    takes them as long as their own work."""
    from mlegfn.config import load

    return load()


def write(params=None):
    """Write graph.json if its content would change; True if it did."""
    text = render(params or _settings())
    path = Path(GRAPH)
    if _holds(path, text):
        return False
    write_text(path, text)
    return True


def _holds(path, text):
    """Whether the file is this text; one that cannot be read as text is not."""
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def check(params):
    """A graph.json that is not the one ``params`` gives is a UserError."""
    if not _holds(Path(GRAPH), render(params)):
        raise UserError(f"{GRAPH}: does not follow from params.yaml any more; run `mlegfn graph`")


def checked(scale_name):
    """params.yaml's settings; that it has the scale and that graph.json follows from it are checked."""
    params = _settings()
    params.scale(scale_name)
    check(params)
    return params


def names(graph, scale=None):
    """The stage names of a graph, as DVC and Snakemake call them; those of one scale if it is given."""
    return [
        f"{stage}@{key}"
        for stage, items in graph.items()
        for key, item in items.items()
        if scale in (None, item["scale"])
    ]


def is_scale_name(text):
    """Whether ``text`` may name a scale, so that it can be part of a path."""
    return re.fullmatch(r"[a-z0-9][a-z0-9-]*", text) is not None


def command(check_only):
    """`mlegfn graph`: write graph.json, or only say whether it follows from params.yaml."""
    if check_only:
        return check(_settings())
    print(f"{GRAPH}: {'written' if write() else 'up to date'}")
