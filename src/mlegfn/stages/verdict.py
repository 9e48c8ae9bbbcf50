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

    mine = [claim for claim in claims.load() if claim.test.kind not in claims.DISCRETE]
    report = verdict.decide(Metrics(scale_name, scale), mine)
    folder = paths.results(scale_name, "report")
    write_json(folder / "verdict.json", report)
    write_text(folder / "verdict.md", verdict.markdown(report))
