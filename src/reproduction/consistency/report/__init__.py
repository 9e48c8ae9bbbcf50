"""Stage ``report``: the metrics of the consistency experiment → figures, tables, verdicts.

In:  claims/consistency.yaml, results/<scale>/consistency/metrics
Out: results/<scale>/consistency/figures/{slope,policy,noising}.{md,pdf,svg,png},
     …/tables/{signed,optimum,policy,noising}.{csv,md}, …/report/verdict.{json,md}; nothing of ``policy`` and of ``noising`` at
     a scale without such runs
"""


def run(stage):
    from mlegfn.artifacts import write_bytes, write_json, write_text
    from reproduction.consistency.report import (
        noising_figure,
        noising_tables,
        policy_figure,
        policy_tables,
        slope,
        tables,
    )
    from reproduction.consistency.report.evidence import KINDS, TESTS
    from reproduction.consistency.report.metrics import Metrics
    from reproduction.verdicts import claims, verdict

    decided = claims.load("claims/consistency.yaml", KINDS)
    signed, policy, noising = (stage.lists[name] for name in ("signed_runs", "policy_runs", "noising_runs"))
    for part, problems in (("signed", signed), ("policy", policy), ("noising", noising)):
        for problem in problems:
            stage.input(stage.path("metrics", part, f"{problem}.json"))
    metrics = Metrics(stage.scale, stage.settings, signed, policies=policy, noisings=noising)
    figures, made = {"slope": (slope, metrics)}, tables.make(metrics)
    if policy:
        figures["policy"] = policy_figure, metrics.policy
        made |= policy_tables.make(metrics.policy)
    if noising:
        figures["noising"] = noising_figure, metrics.noising
        made |= noising_tables.make(metrics.noising)
    for name, (drawing, measured) in figures.items():
        for ending, content in drawing.draw(measured).items():
            write_bytes(stage.path("figures", f"{name}.{ending}"), content)
        write_text(stage.path("figures", f"{name}.md"), drawing.caption(measured))
    for name, text in made.items():
        write_text(stage.path("tables", name), text)
    report = verdict.decide(metrics, decided, TESTS)
    write_json(stage.path("report", "verdict.json"), report)
    write_text(stage.path("report", "verdict.md"), verdict.markdown(report))
