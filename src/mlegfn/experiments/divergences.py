"""One task of arXiv 2410.09355, trained on by every objective and seed: learning curves and what is left at the end."""

from mlegfn.experiments.divergence_tasks import TITLES, new_task
from mlegfn.gflownet.losses import OBJECTIVES
from mlegfn.gflownet.training import train
from mlegfn.randomness import generator

__all__ = ["experiment", "fit"]


def experiment(name, settings):
    """(the metrics of results/<scale>/metrics/divergences/<task>.json without the scale, arrays of densities).

    settings: config's block of the task. Arrays only where the objects are points in the plane.
    """
    task = new_task(name, settings)
    runs, arrays = [], dict(getattr(task, "arrays", dict)())
    for seed in settings.seeds:
        for objective in settings.objectives:
            model, curve = fit(task, objective, settings, seed)
            exact, error = task.last(model)
            sampled = task.sampled(model, generator(seed, "divergences", name, objective, "samples"))
            learned = OBJECTIVES[objective].log_z
            runs.append(
                {
                    "objective": objective,
                    "seed": seed,
                    "curve": curve,
                    "final": {"exact": exact, "exact_error": error, "sampled": sampled},
                    "log_z": model.log_z.item() if learned else None,
                }
            )
            if arrays and seed == settings.seeds[0]:
                arrays[objective] = task.density(model)
    value, error = task.floor()
    about = {
        "task": name,
        "title": TITLES[name],
        "metric": task.metric,
        "about": task.about,
        "log_z": task.log_z,
    }
    if arrays:
        about["box"] = [list(side) for side in zip(*(end.tolist() for end in task.target.box))]
    floor = {"samples": settings.samples, "value": value, "standard_error": error}
    return {**about, "batch": settings.batch, "steps": settings.steps, "floor": floor, "runs": runs}, arrays


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
