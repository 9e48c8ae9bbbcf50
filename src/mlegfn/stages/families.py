"""Stage ``families``: what every family measured → Table 1, the families' figure and page.

In:  results/<scale>/metrics/families, results/<scale>/families/<family>.safetensors
Out: results/<scale>/tables/{table1,families}.{csv,md}, results/<scale>/figures/families.{pdf,svg,png,md},
     results/<scale>/report/families.md
"""

from mlegfn import paths


def run(scale_name, scale):
    from mlegfn.artifacts import write_bytes
    from mlegfn.report import families

    for folder, files in families.make(scale_name, scale.families).items():
        for name, content in files.items():
            write_bytes(
                paths.results(scale_name, folder, name),
                content if isinstance(content, bytes) else content.encode(),
            )
