"""Metrics of divergence experiments that never ran, made up so that tests know what must come out of them."""

import json
from types import SimpleNamespace

import numpy as np
from safetensors.numpy import save_file

ALL = (
    *("trajectory_balance", "log_variance", "detailed_balance", "sub_trajectory_balance", "flow_matching"),
    *("reverse_kl", "forward_kl", "renyi", "tsallis", "f_forward_kl", "f_tsallis"),
)
TASKS = ("hypergrid", "sets", "sequences", "phylogeny", "mixture", "banana")
BOX = [[-2.0, 3.0], [-1.0, 2.0]]
VARIATES = ("none", "leave_one_out", "score", "both", "score_signed", "both_signed", "combined")
ALPHAS = (-2.0, -1.0, -0.5, 0.5, 1.5, 2.0)


class Tasks(dict):
    """{task: settings}, as the settings' block ``tasks``."""

    def listed(self):
        return self


def settings(tasks=TASKS, seeds=(0, 1, 2), objectives=ALL, gradients=("sets", "sequences")):
    """What the report reads of the settings' block `divergences`."""

    def objectives_of(task):
        return [name for name in objectives if name != "flow_matching" or task not in ("mixture", "banana")]

    return SimpleNamespace(
        tasks=Tasks(
            {task: SimpleNamespace(objectives=objectives_of(task), seeds=list(seeds)) for task in tasks}
        ),
        gradients=dict.fromkeys(gradients),
    )


def write_some(root, name="divergences", **how):
    """Write files for the settings that ``how`` gives to :func:`settings`, its rest to :func:`write`; the settings."""
    own = {key: how.pop(key) for key in ("tasks", "seeds", "objectives", "gradients") if key in how}
    chosen = settings(**own)
    write(root, chosen, name=name, **how)
    return chosen


def write_json(path, value):
    """As artifacts.write_json, without the waits for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write(
    root, chosen, name="divergences", final=None, speed=None, spread=0.01, error=0.0, traces=None, cells=24
):
    """Write the files of ``chosen`` settings.

    :param final: {(task, objective): the exact metric after training}; 0.1 for the others
    :param speed: {(task, objective): how fast the metric falls}; 5 for the others
    :param spread: from seed to seed, relative, the same for all objectives but for a hundredth of it
    :param error: the standard error of the "exact" metric
    :param traces: {(objective, control variate): the trace at batch 1, relative to none's}; 1 for the others. From group to
        group of batches it varies by a factor of e or so, the same for all control variates but for 1 %
    """
    final, speed, traces = final or {}, speed or {}, traces or {}
    rng, folder = np.random.default_rng(0), root / name / "divergences"
    for task, own in chosen.tasks.items():
        value = {
            **{"scale": name, "task": task, "metric": "JSD" if task in ("mixture", "banana") else "L1"},
            **{"title": task, "about": f"A target called {task}.", "log_z": 1.5, "batch": 64, "steps": 1000},
            "floor": {"samples": 10_000, "value": 0.05, "standard_error": None},
            "runs": [],
        }
        if task in ("mixture", "banana"):
            value["box"] = BOX
        common = {seed: spread * rng.normal() for seed in own.seeds}
        for objective in own.objectives:
            for seed in own.seeds:
                last = final.get((task, objective), 0.1) * np.exp(common[seed] + 0.01 * spread * rng.normal())
                steps = list(range(0, 1001, 50))
                fall = speed.get((task, objective), 5.0) * np.exp(common[seed])
                curve = [last + (1.5 - last) * float(np.exp(-fall * step / 1000)) for step in steps]
                value["runs"].append(
                    {
                        **{"objective": objective, "seed": seed, "curve": {"step": steps, "value": curve}},
                        "final": {
                            **{"exact": last, "exact_error": error},
                            "sampled": None if task == "sets" else float(np.hypot(last, 0.05)),
                        },
                        "log_z": 1.49 if objective.endswith("balance") else None,
                    }
                )
        write_json(folder / "metrics" / "tasks" / f"{task}.json", value)
    for task in chosen.gradients:
        write_json(folder / "metrics" / "gradients" / f"{task}.json", _gradients(name, task, traces))
    densities = folder / "densities"
    densities.mkdir(parents=True, exist_ok=True)
    for task in sorted({"mixture", "banana"} & set(chosen.tasks), reverse=True):
        arrays = {
            objective: bump(cells, 0.2 * k) for k, objective in enumerate(chosen.tasks[task].objectives)
        }
        arrays |= {"target": bump(cells, 0.0)} | (
            {"nuts": rng.normal(0.5, 0.4, (200, 2))} if task == "banana" else {}
        )
        save_file(arrays, densities / f"{task}.safetensors")
    keys = [("tsallis", alpha) for alpha in ALPHAS] + [("reverse_kl", None), ("forward_kl", None)]
    rows = [
        {
            **{"alpha": alpha, "objective": objective, "seed": seed, "jsd": 0.3 + 0.01 * k},
            **{"modes": 9 - k, "mass_inside": 0.1 * k},
        }
        for k, (objective, alpha) in enumerate(keys)
        for seed in (0, 1)
    ]
    write_json(
        folder / "metrics" / "alpha.json",
        {"scale": name, "title": "alpha", "about": "Nine Gaussians.", "box": [-3.0, 3.0], "rows": rows},
    )
    save_file(
        {"target": bump(cells, 0.0)} | {f"{o}:{a}": bump(cells, 0.1 * k) for k, (o, a) in enumerate(keys)},
        densities / "alpha.safetensors",
    )


def _gradients(name, task, traces):
    rng, common = np.random.default_rng(1), np.random.default_rng(2).normal(size=8)
    rows = [
        {
            **{"objective": objective, "alpha": 0.5 if objective in ("renyi", "tsallis") else None},
            **{"control_variate": variate, "batch": batch},
            **{"trace": traces.get((objective, variate), 1.0) / batch, "trace_standard_error": 0.01 / batch},
            "traces": [
                traces.get((objective, variate), 1.0) / batch * float(np.exp(level + 0.01 * rng.normal()))
                for level in common
            ],
            "mean_square": 0.1,
        }
        for objective in ("reverse_kl", "forward_kl", "renyi", "tsallis")
        for variate in VARIATES
        for batch in (8, 32, 128, 512)
    ]
    about = {
        "scale": name,
        "task": task,
        "title": task,
        "about": "A policy.",
        "trained_steps": 100,
        "repeats": 256,
        "group": 32,
    }
    return {**about, "rows": rows}


def bump(cells, shift):
    """A density of cells [C, C] around (0.5, 0.3 + shift) of BOX: the first axis is x_1."""
    x, y = (np.linspace(low, high, cells) for low, high in BOX)
    density = np.exp(-((x[:, None] - 0.5) ** 2) / 0.5 - (y - 0.3 - shift) ** 2 / 0.1)
    return density / density.sum()
