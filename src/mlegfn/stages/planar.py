"""Stage ``planar``: one 2-D problem → a DDPM and its fine-tuned arms, their NLL, MMD and samples.

In:  nothing but the settings: the data are drawn by mlegfn.data.planar
Out: results/<scale>/metrics/planar/<problem>.json, results/<scale>/samples/planar-<problem>.safetensors
"""

from mlegfn import paths
from mlegfn.artifacts import write_bytes, write_json
from mlegfn.experiments.planar import experiment


def run(scale_name, scale, problem):
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    metrics, samples = experiment(problem, scale.planar)
    for entry in metrics["runs"]:
        print(
            f"{problem} seed {entry['seed']} {entry['model']:8s} NLL {entry['nll']:.4f} ± "
            f"{entry['nll_standard_error']:.4f} nats (ELBO {entry['elbo_nll']:.4f}), MMD² {entry['mmd']:.2e}"
        )
    tensors = {name: points.float().contiguous() for name, points in samples.items()}
    write_bytes(paths.results(scale_name, "samples", f"planar-{problem}.safetensors"), save(tensors))
    write_json(
        paths.results(scale_name, "metrics", "planar", f"{problem}.json"), {"scale": scale_name, **metrics}
    )
