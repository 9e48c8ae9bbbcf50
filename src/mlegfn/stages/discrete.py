"""Stage ``discrete``: one planar problem as 32 bits → MLE-GFNs with a random, learned or ordered P_B.

In:  nothing but the settings: the data are drawn by mlegfn.data.planar and encoded by mlegfn.data.gray
Out: results/<scale>/metrics/discrete/<problem>.json, results/<scale>/discrete/<problem>.safetensors
"""

from mlegfn import paths
from mlegfn.artifacts import write_bytes, write_json
from mlegfn.experiments.discrete import experiment


def run(scale_name, scale, problem):
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    metrics, samples = experiment(problem, scale.discrete)
    for entry in metrics["runs"]:
        print(
            f"{problem} seed {entry['seed']} {entry['model']:11s} NLL {entry['nll']:.4f} ± "
            f"{entry['nll_standard_error']:.4f} nats (data {metrics['entropy']:.4f}, ELBO {entry['elbo_nll']:.4f}), "
            f"MMD² {entry['mmd']:.2e}"
        )
    tensors = {name: points.float().contiguous() for name, points in samples.items()}
    write_bytes(paths.results(scale_name, "discrete", f"{problem}.safetensors"), save(tensors))
    write_json(
        paths.results(scale_name, "metrics", "discrete", f"{problem}.json"), {"scale": scale_name, **metrics}
    )
