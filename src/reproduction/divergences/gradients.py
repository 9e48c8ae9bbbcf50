"""Stage ``divergences.gradients``: the covariance of the gradient's estimate at one policy of each task.

In:  nothing but the settings
Out: metrics/gradients/<task>.json of every task in ``gradients``, a part each

Figure 2 of arXiv 2410.09355: by objective, control variate and batch size. All estimators see the same trajectories, so
that they differ in nothing else.
"""

import torch

from mlegfn.artifacts import read_json, write_json
from mlegfn.gflownet.losses import OBJECTIVES, log_scale
from mlegfn.gflownet.training import train
from mlegfn.randomness import generator
from reproduction.divergences.tasks import TITLES, new_task

__all__ = ["measure", "run", "spread"]

# Trajectories of the batch that fixes the scale of the weights, as the paper's initial batch does.
INITIAL = 1024
# Batches of a group. Control variates are compared by pairs of logarithms of traces, one pair a group: with fewer batches
# the logarithm of a trace falls farther below that of its mean, with more there are fewer groups.
GROUP = 4
# Settings of a task that its gradients do not depend on.
UNUSED = {"objectives", "seeds", "steps", "evaluations", "samples", "control_variate"}


def run(stage):
    torch.set_num_threads(1)
    for name, settings in stage.settings.gradients.items():
        training = getattr(stage.settings.tasks, name)
        path = stage.path("metrics", "gradients", f"{name}.json")
        depends = {
            "gradients": settings.model_dump(),
            "task": training.model_dump(exclude=UNUSED),
            "seed": training.seeds[0],
        }
        part = stage.part(name, [path], depends)
        if not part.finished:
            write_json(path, {"scale": stage.scale, **measure(name, settings, training)})
            part.finish()
        _print(read_json(path))


def measure(name, settings, training):
    """The metrics of a task without the scale.

    settings: ``settings.Gradients``; training: the task's block.
    """
    task = new_task(name, training)
    seed = training.seeds[0]
    model = task.model(seed)
    if settings.trained_steps:
        few = training.model_copy(update={"steps": settings.trained_steps})
        train(model, "trajectory_balance", few, "gradients", name, seed=seed, description=f"{name}: a policy")
    parameters = list(model.policy.parameters())
    initial = model.score(model.rollout(INITIAL, generator(seed, "gradients", name, "scale")))
    scales = {objective: log_scale(objective, initial, training.alpha) for objective in settings.objectives}
    rows = []
    for batch in settings.batches:
        estimates = {}
        for repeat in range(settings.repeats):
            drawn = model.rollout(batch, generator(seed, "gradients", name, batch, repeat))
            scores = model.score(drawn)
            for objective in settings.objectives:
                for variate in settings.control_variates:
                    options = {"control_variate": variate, "alpha": training.alpha}
                    if scales[objective] is not None:
                        options["log_scale"] = scales[objective]
                    value = OBJECTIVES[objective].loss(scores, options, parameters)
                    gradient = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
                    flat = torch.cat([g.flatten() for g in gradient if g is not None]).double()
                    estimates.setdefault((objective, variate), []).append(flat)
        for (objective, variate), gradients in estimates.items():
            alpha = training.alpha if "alpha" in OBJECTIVES[objective].options else None
            row = {"objective": objective, "alpha": alpha, "control_variate": variate, "batch": batch}
            rows.append({**row, **spread(torch.stack(gradients))})
    return {
        "task": name,
        "title": TITLES[name],
        "about": f"{task.about}; the policy after {settings.trained_steps} steps of trajectory balance",
        "trained_steps": settings.trained_steps,
        "repeats": settings.repeats,
        "group": GROUP,
        "rows": rows,
    }


def spread(gradients):
    """Of independent estimates [R, P]: the trace of their covariance with its standard error, and ‖mean‖².

    Both unbiased: the mean of R estimates is itself off by trace/R. ``traces`` are those of the R // GROUP whole groups of
    consecutive estimates, each by itself, so that they are independent of each other.
    """
    count = len(gradients)
    away = (gradients - gradients.mean(0)).square().sum(1) * count / (count - 1)
    trace = away.mean()
    square = gradients.mean(0).square().sum() - trace / count
    groups = (gradients[k : k + GROUP] for k in range(0, count - GROUP + 1, GROUP))
    return {
        "trace": trace.item(),
        "trace_standard_error": (away.std() / count**0.5).item(),
        "traces": [group.var(0).sum().item() for group in groups],
        "mean_square": square.item(),
    }


def _print(metrics):
    largest = max(row["batch"] for row in metrics["rows"])
    for row in metrics["rows"]:
        if row["batch"] == largest:
            print(
                f"{metrics['task']} {row['objective']:10s} {row['control_variate']:13s} batch {largest}: trace "
                f"{row['trace']:.3e} ± {row['trace_standard_error']:.1e}, ‖mean‖² {row['mean_square']:.3e}"
            )
