"""Stage ``discrete_report``: the planar problems as 32 bits → a table beside EB-GFN's values, a figure, verdicts.

In:  results/<scale>/metrics/discrete, results/<scale>/discrete/<problem>.safetensors, claims.yaml
Out: results/<scale>/tables/discrete.{csv,md}, results/<scale>/figures/discrete.{pdf,svg,png,md},
     results/<scale>/report/discrete.{json,md}
"""

from mlegfn import paths


def run(scale_name, scale):
    from mlegfn.artifacts import write_bytes
    from mlegfn.report import claims, discrete

    for folder, files in discrete.make(scale_name, scale.discrete, claims.load(report="discrete")).items():
        for name, content in files.items():
            write_bytes(
                paths.results(scale_name, folder, name),
                content if isinstance(content, bytes) else content.encode(),
            )
