"""Stage ``figures``: metrics and samples → the three figures, each with its caption.

In:  results/<scale>/metrics/{nll,finetune,planar}, results/<scale>/samples
Out: results/<scale>/figures/figure{1,2,3}.{pdf,svg,png,md}
"""

from mlegfn import paths


def run(scale_name, scale):
    """Draw the three figures of a scale and write their captions."""
    from mlegfn.artifacts import write_bytes
    from mlegfn.report import figures
    from mlegfn.report.metrics import Metrics

    for name, content in figures.make(Metrics(scale_name, scale)).items():
        path = paths.results(scale_name, "figures", name)
        write_bytes(path, content if isinstance(content, bytes) else content.encode())
