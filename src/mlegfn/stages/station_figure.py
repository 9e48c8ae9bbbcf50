"""Stage ``station_figure``: what one station measured → its figure, caption and table.

In:  results/<scale>/metrics/gallery/<station>.json, results/<scale>/gallery/<station>.safetensors
Out: results/<scale>/figures/gallery-<station>.{pdf,svg,png,md}, results/<scale>/tables/gallery-<station>.{csv,md}
"""

from mlegfn import paths


def run(scale_name, scale, station):
    from mlegfn.artifacts import write_bytes
    from mlegfn.report.gallery import drawing

    for folder, files in drawing.make(scale_name, station).items():
        for name, content in files.items():
            write_bytes(
                paths.results(scale_name, folder, name),
                content if isinstance(content, bytes) else content.encode(),
            )
