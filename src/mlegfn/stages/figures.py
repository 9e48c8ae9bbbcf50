"""Stage ``figures``: metrics and samples in; results/<scale>/figures/figure{1,2,3}.{pdf,svg,png,md} out."""

from pathlib import Path


def run(scale_name, scale):
    """Draw the three figures of a scale and write their captions."""
    from mlegfn.artifacts import write_bytes
    from mlegfn.report import figures
    from mlegfn.report.metrics import Metrics

    for name, content in figures.make(Metrics(scale_name, scale)).items():
        path = Path("results") / scale_name / "figures" / name
        write_bytes(path, content if isinstance(content, bytes) else content.encode())
