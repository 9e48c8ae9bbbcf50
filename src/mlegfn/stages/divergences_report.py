"""Stage ``divergences_report``: the divergence experiments → table, figures, verdicts, which objective to use.

In:  results/<scale>/metrics/{divergences,gradients}, results/<scale>/metrics/alpha.json, results/<scale>/divergences,
     claims.yaml
Out: results/<scale>/tables/divergences{,-gradients}.{csv,md}, results/<scale>/figures/divergences-*,
     results/<scale>/report/divergences{.json,.md,-objectives.md}
"""

from types import SimpleNamespace

from mlegfn import paths


def run(scale_name, scale):
    from mlegfn.artifacts import write_bytes
    from mlegfn.report import claims, divergences

    block = scale.divergences
    settings = SimpleNamespace(tasks=block.tasks.there(), gradients=block.gradients, alpha=block.alpha)
    found = divergences.make(scale_name, settings, claims.load(report="divergences"))
    for folder, files in found.items():
        for name, content in files.items():
            write_bytes(
                paths.results(scale_name, folder, name),
                content if isinstance(content, bytes) else content.encode(),
            )
