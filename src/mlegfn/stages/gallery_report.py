"""Stage ``gallery_report``: what the stations measured → the verdicts of claims-gallery.yaml.

In:  results/<scale>/metrics/gallery, claims-gallery.yaml
Out: results/<scale>/report/gallery.{json,md}
"""

from mlegfn import paths


def run(scale_name, scale):
    import json

    from mlegfn.artifacts import write_text
    from mlegfn.report import verdict
    from mlegfn.report.gallery import claims, measured

    report = verdict.decide(measured.read(scale_name, scale.gallery), claims.load())
    folder = paths.results(scale_name, "report")
    write_text(folder / "gallery.json", json.dumps(report, indent=1, sort_keys=True, allow_nan=False) + "\n")
    write_text(folder / "gallery.md", verdict.markdown(report))
