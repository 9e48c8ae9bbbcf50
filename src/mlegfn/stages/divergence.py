"""Stage ``divergence``: one task of arXiv 2410.09355 → every objective and seed, trained and measured.

In:  nothing but the settings: the target is made by mlegfn.targets
Out: results/<scale>/metrics/divergences/<task>.json, results/<scale>/divergences/<task>.safetensors (densities of
     the first seed, where objects are points in the plane)
"""

from mlegfn import paths
from mlegfn.artifacts import write_bytes, write_json
from mlegfn.experiments.divergences import experiment


def run(scale_name, scale, task):
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    metrics, arrays = experiment(task, getattr(scale.divergences.tasks, task))
    for entry in metrics["runs"]:
        final, floor = entry["final"], metrics["floor"]
        print(
            f"{task} seed {entry['seed']} {entry['objective']:22s} {metrics['metric']} {final['exact']:.4f}"
            f" (sampled {final['sampled']}, floor {floor['value']:.4f} at {floor['samples']} samples)"
        )
    tensors = {name: values.float().contiguous() for name, values in arrays.items()}
    write_bytes(paths.results(scale_name, "divergences", f"{task}.safetensors"), save(tensors))
    write_json(
        paths.results(scale_name, "metrics", "divergences", f"{task}.json"), {"scale": scale_name, **metrics}
    )
