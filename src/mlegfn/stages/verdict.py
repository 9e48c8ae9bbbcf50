"""Stage ``verdict``: claims.yaml and metrics in; results/<scale>/report/verdict.{json,md} out."""

from pathlib import Path


def run(scale_name, scale):
    """Decide every claim at a scale."""
    from mlegfn.artifacts import write_json, write_text
    from mlegfn.report import claims, verdict
    from mlegfn.report.metrics import Metrics

    report = verdict.decide(Metrics(scale_name, scale), claims.load())
    folder = Path("results") / scale_name / "report"
    write_json(folder / "verdict.json", report)
    write_text(folder / "verdict.md", verdict.markdown(report))
