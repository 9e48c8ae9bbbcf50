"""Stage ``tables``: metrics → the tables.

In:  results/<scale>/metrics/{nll,finetune,planar,quality}
Out: results/<scale>/tables/{nll,paired,planar,quality}.{csv,md}
"""

from mlegfn import paths


def run(scale_name, scale):
    """Write the tables of a scale."""
    from mlegfn.artifacts import write_text
    from mlegfn.report import tables
    from mlegfn.report.metrics import Metrics

    for name, text in tables.make(Metrics(scale_name, scale)).items():
        write_text(paths.results(scale_name, "tables", name), text)
