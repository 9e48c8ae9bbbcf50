"""Stage ``gallery.run_station``: one station of the lecture notes → what it measured, its samples and its models.

In:  data of the scale that the station's entry in params.yaml names; stations/<name>.safetensors of the stations that it reads, if any
Out: metrics/<station>.json, stations/<station>.safetensors

The stages ``gallery.run_reading_station`` and ``gallery.run_prior`` are the same for stations that read others.
"""

import torch
from safetensors.torch import save

from mlegfn.artifacts import write_bytes, write_json
from reproduction import gallery
from reproduction.gallery.station import Inputs

__all__ = ["run"]


def run(stage, name):
    torch.set_num_threads(1)
    station, settings = gallery.load(name), getattr(stage.settings, name)
    result = station.run(settings, Inputs(stage))
    for quantity in result.quantities.values():
        values = ", ".join(f"{value:.4g}" for value in quantity.values)
        print(f"{name}: {quantity.what}: {values} {quantity.unit}".rstrip())
    tensors = {key: value.detach().contiguous() for key, value in result.tensors.items()}
    write_bytes(stage.path("stations", f"{name}.safetensors"), save(tensors))
    write_json(
        stage.path("metrics", f"{name}.json"),
        {
            "scale": stage.scale,
            "station": name,
            **station.description(),
            "settings": settings.model_dump(mode="json"),
            "quantities": {key: value.as_json() for key, value in result.quantities.items()},
            "details": result.details,
        },
    )
