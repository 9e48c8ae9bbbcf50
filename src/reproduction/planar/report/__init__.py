"""Stage ``report``: the metrics and samples of the planar problems → Figure 2, a table, verdicts.

In:  claims/planar.yaml, results/<scale>/planar/{metrics,samples}
Out: results/<scale>/planar/figures/figure2.{md,pdf,svg,png}, …/tables/planar.{csv,md}, …/report/verdict.{json,md}
"""


def run(stage):
    from mlegfn.artifacts import write_bytes, write_json, write_text
    from reproduction.drawing.inputs import arrays
    from reproduction.planar.report import figure2, tables
    from reproduction.planar.report.evidence import KINDS, TESTS
    from reproduction.planar.report.metrics import Metrics
    from reproduction.verdicts import claims, verdict

    decided = claims.load("claims/planar.yaml", KINDS)
    for problem in stage.items:
        stage.input(stage.path("metrics", f"{problem}.json"))
        stage.input(stage.path("samples", f"{problem}.safetensors"))
    metrics = Metrics(stage.scale, stage.settings, stage.items)
    samples = {
        problem: arrays(
            stage.path("samples", f"{problem}.safetensors"), ("data", "mle_gfn"), metrics.producer(problem)
        )
        for problem in stage.items
    }
    for ending, content in figure2.draw(samples).items():
        write_bytes(stage.path("figures", f"figure2.{ending}"), content)
    write_text(stage.path("figures", "figure2.md"), figure2.caption(stage.scale, samples))
    for name, text in tables.make(metrics).items():
        write_text(stage.path("tables", name), text)
    report = verdict.decide(metrics, decided, TESTS)
    write_json(stage.path("report", "verdict.json"), report)
    write_text(stage.path("report", "verdict.md"), verdict.markdown(report))
