"""Stage ``report``: the metrics and samples of a scale → Figures 1 and 3, tables, verdicts.

In:  claims/images.yaml, results/<scale>/images/{metrics/nll, metrics/finetune, metrics/quality, samples}
Out: results/<scale>/images/figures/figure{1,3}.{md,pdf,svg,png}, …/tables/{nll,paired,search,log_p,quality}.{csv,md},
     …/report/verdict.{json,md}
"""

INPUTS = ("metrics/nll", "metrics/finetune", "metrics/quality", "samples/trajectories.safetensors")


def run(stage):
    from mlegfn.artifacts import write_bytes, write_json, write_text
    from reproduction.images.report import figures, tables
    from reproduction.images.report.evidence import KINDS, TESTS
    from reproduction.images.report.metrics import Metrics
    from reproduction.verdicts import claims, verdict

    decided = claims.load("claims/images.yaml", KINDS)
    for path in INPUTS:
        stage.input(stage.path(path))
    metrics = Metrics(stage.scale, stage.settings, stage.items)
    for name, content in figures.make(metrics).items():
        content = content.encode() if isinstance(content, str) else content
        write_bytes(stage.path("figures", name), content)
    for name, text in tables.make(metrics).items():
        write_text(stage.path("tables", name), text)
    report = verdict.decide(metrics, decided, TESTS)
    write_json(stage.path("report", "verdict.json"), report)
    write_text(stage.path("report", "verdict.md"), verdict.markdown(report))
