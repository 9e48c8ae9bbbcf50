"""Stage ``alpha``: a policy too small for its target, trained by divergences of α from −2 to 2.

In:  nothing but the settings
Out: results/<scale>/metrics/alpha.json, results/<scale>/divergences/alpha.safetensors (densities of the first seed)
"""

from mlegfn import paths
from mlegfn.artifacts import write_bytes, write_json
from mlegfn.experiments.alpha import experiment


def run(scale_name, scale):
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    metrics, arrays = experiment(scale.divergences.alpha)
    for row in metrics["rows"]:
        print(
            f"seed {row['seed']} {row['objective']:10s} α {row['alpha']}: JSD {row['jsd']:.4f}, modes {row['modes']}, "
            f"mass inside {row['mass_inside']:.3f}"
        )
    tensors = {name: values.float().contiguous() for name, values in arrays.items()}
    write_bytes(paths.results(scale_name, "divergences", "alpha.safetensors"), save(tensors))
    write_json(paths.results(scale_name, "metrics", "alpha.json"), {"scale": scale_name, **metrics})
