"""Stage ``fetch``: the block ``data`` of a scale → its images.

Out: data/<scale>/{images.safetensors, dataset.json}
"""

from mlegfn import data
from mlegfn.errors import UserError


def run(stage):
    """Write the images of a scale and what they are; equal bytes on every run."""
    try:
        images = data.load(stage.settings.data)
    except UserError as error:
        raise UserError(f"params.yaml: images.{stage.scale}.data: {error}") from None
    data.save_images(images, stage.data)
