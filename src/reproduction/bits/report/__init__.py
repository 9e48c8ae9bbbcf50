"""Stage ``report``: the planar problems as 32 bits → a table beside EB-GFN's values, a figure, verdicts.

In:  claims/bits.yaml, results/<scale>/bits/{metrics,samples}
Out: results/<scale>/bits/tables/bits.{csv,md}, …/figures/bits.{md,pdf,svg,png}, …/report/verdict.{json,md}
"""


def run(stage):
    from mlegfn.artifacts import write_bytes, write_json, write_text
    from reproduction.bits.report import figure, tables
    from reproduction.bits.report.evidence import KINDS, TESTS
    from reproduction.bits.report.metrics import Metrics
    from reproduction.drawing.inputs import arrays
    from reproduction.verdicts import claims, verdict

    decided = claims.load("claims/bits.yaml", KINDS)
    for problem in stage.items:
        stage.input(stage.path("metrics", f"{problem}.json"))
        stage.input(stage.path("samples", f"{problem}.safetensors"))
    metrics = Metrics(stage.scale, stage.settings, stage.items)
    samples = {
        problem: arrays(
            stage.path("samples", f"{problem}.safetensors"),
            ("data", *stage.settings.arms),
            metrics.producer(problem),
        )
        for problem in stage.items
    }
    for name, text in tables.make(metrics, tables.published(decided)).items():
        write_text(stage.path("tables", name), text)
    for ending, content in figure.draw(samples, stage.settings.arms).items():
        write_bytes(stage.path("figures", f"bits.{ending}"), content)
    write_text(stage.path("figures", "bits.md"), figure.caption(metrics))
    report = verdict.decide(metrics, decided, TESTS)
    write_json(stage.path("report", "verdict.json"), report)
    write_text(stage.path("report", "verdict.md"), verdict.markdown(report))
