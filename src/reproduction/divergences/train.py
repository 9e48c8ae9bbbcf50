"""Stage ``divergences.train``: one task of arXiv 2410.09355 → every objective and seed, trained and measured.

In:  nothing but the settings: the target is made by mlegfn.targets
Out: metrics/tasks/<task>.json, densities/<task>.safetensors (densities of the first seed, where objects are points in
     the plane; empty elsewhere)

The target's own numbers are a part, and so is each objective and seed: a new one costs only its own training.
"""

from functools import cache, partial

import torch
from safetensors.torch import save

from mlegfn.artifacts import write_bytes, write_json
from mlegfn.gflownet.losses import OBJECTIVES
from mlegfn.gflownet.training import train
from mlegfn.randomness import generator
from reproduction.divergences.tasks import TITLES, new_task

__all__ = ["fit", "measure", "options", "run"]


def run(stage, name):
    torch.set_num_threads(1)
    settings = getattr(stage.settings.tasks, name)
    task = cache(partial(new_task, name, settings))  # not made where every part is finished
    target, arrays = stage.keep("target", _target_settings(settings), partial(describe, name, task))
    runs = []
    for seed in settings.seeds:
        for objective in settings.objectives:
            compute = partial(measure, name, task, objective, settings, seed)
            value, density = stage.keep(f"{objective}-{seed}", _run_settings(objective, settings), compute)
            runs.append(value)
            if density and seed == settings.seeds[0]:
                arrays[objective] = density["density"]
            _print(name, value, target)
    write_bytes(stage.path("densities", f"{name}.safetensors"), save(arrays))
    metrics = {"scale": stage.scale, **target, "batch": settings.batch, "steps": settings.steps, "runs": runs}
    write_json(stage.path("metrics", "tasks", f"{name}.json"), metrics)


def describe(name, task):
    """(what the metrics file says of the target and of the metric's floor, {name: float32 tensor} of its densities).

    task: function without arguments that returns it.
    """
    task = task()
    value, error = task.floor()
    about = {
        "task": name,
        "title": TITLES[name],
        "metric": task.metric,
        "about": task.about,
        "log_z": task.log_z,
        "floor": {"samples": task.settings.samples, "value": value, "standard_error": error},
    }
    arrays = {key: array.float() for key, array in getattr(task, "arrays", dict)().items()}
    if arrays:
        about["box"] = [list(side) for side in zip(*(end.tolist() for end in task.target.box))]
    return about, arrays


def measure(name, task, objective, settings, seed):
    """(one entry of ``runs`` in the metrics file, {"density": [cells, cells] float32} where objects are points).

    task: function without arguments that returns it.
    """
    task = task()
    model, curve = fit(task, objective, settings, seed)
    exact, error = task.last(model)
    sampled = task.sampled(model, generator(seed, "divergences", name, objective, "samples"))
    value = {
        "objective": objective,
        "seed": seed,
        "curve": curve,
        "final": {"exact": exact, "exact_error": error, "sampled": sampled},
        "log_z": model.log_z(objective),
    }
    return value, {"density": task.density(model).float()} if hasattr(task, "density") else {}


def fit(task, objective, settings, seed):
    """(the trained model, its learning curve). The draws of a step have the same keys for every objective."""
    model = task.model(seed)
    steps = [round(settings.steps * k / settings.evaluations) for k in range(settings.evaluations + 1)]
    curve = {"step": [0], "value": [task.value(model)[0]]}

    def evaluate(step):
        curve["step"].append(step)
        curve["value"].append(task.value(model)[0])

    train(
        model,
        objective,
        settings,
        "divergences",
        task.name,
        seed=seed,
        evaluate=evaluate,
        evaluate_at=steps[1:],
        description=f"{task.name} {seed}: {objective}",
        **options(objective, settings),
    )
    return model, curve


def options(objective, settings):
    """What the settings say of an objective's own options."""
    known = OBJECTIVES[objective].options
    return {key: getattr(settings, key) for key in ("alpha", "control_variate") if key in known}


OF_TRAINING = {
    *("objectives", "seeds", "steps", "batch", "lr", "log_z_lr", "hidden", "alpha", "control_variate"),
    *("exploration", "replay", "capacity", "evaluations", "components"),
}


def _target_settings(settings):
    """What ``describe`` depends on: all but how policies are trained."""
    return settings.model_dump(exclude=OF_TRAINING)


def _run_settings(objective, settings):
    """What ``measure`` depends on beside objective and seed, which the part's name has."""
    unused = {"alpha", "control_variate"} - options(objective, settings).keys()
    return settings.model_dump(exclude={"objectives", "seeds", *unused})


def _print(name, value, target):
    final, floor = value["final"], target["floor"]
    print(
        f"{name} seed {value['seed']} {value['objective']:22s} {target['metric']} {final['exact']:.4f}"
        f" (sampled {final['sampled']}, floor {floor['value']:.4f} at {floor['samples']} samples)"
    )
