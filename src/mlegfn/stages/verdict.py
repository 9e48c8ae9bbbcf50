"""Stage ``verdict``: metrics and claims.yaml → which claims of the paper are reproduced.

In:  results/<scale>/metrics/{nll,finetune,planar}, claims.yaml
Out: results/<scale>/report/verdict.{json,md}
"""

from mlegfn import paths


def run(scale_name, scale):
    """Decide every claim at a scale."""
    from mlegfn.artifacts import write_json, write_text
    from mlegfn.report import claims, verdict
    from mlegfn.report.metrics import Metrics

    report = verdict.decide(Metrics(scale_name, scale), claims.load())
    folder = paths.results(scale_name, "report")
    write_json(folder / "verdict.json", report)
    write_text(folder / "verdict.md", verdict.markdown(report))
