"""Stage ``gradients``: the covariance of the gradient's estimate at a policy of one task.

In:  nothing but the settings
Out: results/<scale>/metrics/gradients/<task>.json
"""

from mlegfn import paths
from mlegfn.artifacts import write_json
from mlegfn.experiments.gradients import experiment


def run(scale_name, scale, task):
    import torch

    torch.set_num_threads(1)
    settings = scale.divergences
    metrics = experiment(task, settings.gradients[task], getattr(settings.tasks, task))
    largest = max(row["batch"] for row in metrics["rows"])
    for row in metrics["rows"]:
        if row["batch"] == largest:
            print(
                f"{task} {row['objective']:10s} {row['control_variate']:13s} batch {largest}: trace "
                f"{row['trace']:.3e} ± {row['trace_standard_error']:.1e}, ‖mean‖² {row['mean_square']:.3e}"
            )
    write_json(
        paths.results(scale_name, "metrics", "gradients", f"{task}.json"), {"scale": scale_name, **metrics}
    )
