"""Stage ``station``: one station of the lecture notes → what it measured, its samples and its models.

In:  data/<scale> and results/<scale>/gallery of the stations that it reads, where it reads any
Out: results/<scale>/metrics/gallery/<station>.json, results/<scale>/gallery/<station>.safetensors
"""

from mlegfn import gallery, paths
from mlegfn.artifacts import write_bytes, write_json
from mlegfn.gallery.station import Inputs


def run(scale_name, scale, station):
    import torch
    from safetensors.torch import save

    torch.set_num_threads(1)
    loaded, settings = gallery.load(station), getattr(scale.gallery, station)
    found = loaded.run(settings, Inputs(scale_name, scale.gallery))
    for quantity in found.quantities.values():
        values = ", ".join(f"{value:.4g}" for value in quantity.values)
        print(f"{station}: {quantity.what}: {values} {quantity.unit}".rstrip())
    tensors = {name: value.detach().contiguous() for name, value in found.tensors.items()}
    write_bytes(paths.results(scale_name, "gallery", f"{station}.safetensors"), save(tensors))
    write_json(
        paths.results(scale_name, "metrics", "gallery", f"{station}.json"),
        {
            "scale": scale_name,
            "station": station,
            **loaded.description(),
            "settings": settings.model_dump(mode="json"),
            "quantities": {name: value.as_json() for name, value in found.quantities.items()},
            "details": found.details,
        },
    )
