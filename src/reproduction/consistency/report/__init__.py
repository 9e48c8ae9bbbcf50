"""Stage ``report``: the metrics of the consistency experiment → figure, tables, verdicts.

In:  claims/consistency.yaml, results/<scale>/consistency/metrics
Out: results/<scale>/consistency/figures/slope.{md,pdf,svg,png}, …/tables/{signed,optimum}.{csv,md},
     …/report/verdict.{json,md}
"""


def run(stage):
    from mlegfn.artifacts import write_bytes, write_json, write_text
    from reproduction.consistency.report import slope, tables
    from reproduction.consistency.report.evidence import KINDS, TESTS
    from reproduction.consistency.report.metrics import Metrics
    from reproduction.verdicts import claims, verdict

    decided = claims.load("claims/consistency.yaml", KINDS)
    for problem in stage.items:
        stage.input(stage.path("metrics", "signed", f"{problem}.json"))
    metrics = Metrics(stage.scale, stage.settings, stage.items)
    for ending, content in slope.draw(metrics).items():
        write_bytes(stage.path("figures", f"slope.{ending}"), content)
    write_text(stage.path("figures", "slope.md"), slope.caption(metrics))
    for name, text in tables.make(metrics).items():
        write_text(stage.path("tables", name), text)
    report = verdict.decide(metrics, decided, TESTS)
    write_json(stage.path("report", "verdict.json"), report)
    write_text(stage.path("report", "verdict.md"), verdict.markdown(report))
