"""Stage ``report``: what every family measured → Table 1, the families' figure and page.

In:  results/<scale>/families/{metrics,samples}
Out: results/<scale>/families/tables/{table1,families}.{csv,md}, …/figures/families.{md,pdf,svg,png},
     …/report/families.md
"""


def run(stage):
    from mlegfn.artifacts import write_bytes, write_text
    from reproduction.drawing.inputs import arrays
    from reproduction.families.report import figure, metrics, page, tables

    for family in stage.items:
        stage.input(stage.path("metrics", f"{family}.json"))
        stage.input(stage.path("samples", f"{family}.safetensors"))
    families = metrics.read(stage.scale, stage.settings, stage.items)
    panels = {
        family: arrays(
            stage.path("samples", f"{family}.safetensors"),
            [f"panel-{k}" for k in range(len(value["panels"]))],
            metrics.producer(stage.scale, family),
        )
        for family, value in families.items()
    }
    for name, text in tables.make(stage.scale, stage.settings, families).items():
        write_text(stage.path("tables", name), text)
    for ending, content in figure.draw(families, panels).items():
        write_bytes(stage.path("figures", f"families.{ending}"), content)
    write_text(
        stage.path("figures", "families.md"), figure.caption(stage.scale, stage.settings, families) + "\n"
    )
    write_text(stage.path("report", "families.md"), page.page(stage.scale, stage.settings, families))
