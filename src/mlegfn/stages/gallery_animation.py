"""Stage ``gallery_animation``: what the station ``spiral`` left → its way back from noise, moving.

In:  results/<scale>/metrics/gallery/spiral.json, results/<scale>/gallery/spiral.safetensors
Out: results/<scale>/figures/gallery-spiral.webp
"""

from mlegfn import paths


def run(scale_name, scale):
    from mlegfn.artifacts import write_bytes
    from mlegfn.report.gallery import spiral_animation

    write_bytes(
        paths.results(scale_name, "figures", "gallery-spiral.webp"), spiral_animation.make(scale_name)
    )
