"""Stage ``fetch``: params.yaml's ``data`` in; data/<scale>/{images.safetensors, dataset.json} out."""

from mlegfn import paths


def run(scale_name, scale):
    """Write the images of a scale and what they are; equal bytes on every run."""
    from mlegfn import data

    data.save_images(data.load(scale.data), paths.data(scale_name))
