"""docs/consistency.md quotes predictions beside verdicts, figure and tables of the scales that have results."""

import json
import re

from helpers.declared import yaml_file
from helpers.repository import REPOSITORY

from reproduction.site import predictions
from reproduction.site.quotations import QUOTATIONS


def write(root, scale, verdict="reproduced"):
    folder = root / "results" / scale / "consistency"
    for name in ("report", "figures", "tables"):
        (folder / name).mkdir(parents=True)
    row = {
        "id": "odd-in-lambda", "verdict": verdict, "estimate": 0.01, "interval": [-0.02, 0.04], "unit": "",
        "where": "moons", "seeds": 3, "detail": f"{verdict} at 2 of 2 problems; interval over seeds", "parts": [1, 2],
    }  # fmt: skip
    untested = {"id": "slope-is-minus-half", "verdict": "not tested at this scale", "estimate": None}
    (folder / "report/verdict.json").write_text(json.dumps({"claims": [row, untested]}))
    (folder / "figures/slope.md").write_text("**Signed λ**, a caption\n")
    (folder / "tables/optimum.md").write_text("| a |\n|---|\n")
    (folder / "tables/signed.md").write_text(
        f"**Signed λ** (scale `{scale}`, T = 40, 3 seeds, 500 points).\n"
    )


def test_every_claim_has_its_place_in_the_document():
    assert set(predictions.CLAIMS) == set(yaml_file("claims/consistency.yaml"))
    document = (REPOSITORY / "docs/consistency.md").read_text()
    assert set(re.findall(r"<!-- ([\w-]+):begin -->", document)) == {
        *predictions.QUOTATIONS,
        "image-verdicts",
    } - {"finding"}
    assert "<!-- finding:begin -->" in (REPOSITORY / "README.md").read_text()
    assert predictions.QUOTATIONS.items() <= QUOTATIONS.items()


def test_without_results_nothing_is_quoted(tmp_path):
    quoted = {name: quote(tmp_path) for name, quote in predictions.QUOTATIONS.items()}
    assert quoted.pop("regime-first") == "" and set(quoted.values()) == {predictions.NOTHING}


def test_a_prediction_is_quoted_of_the_best_scale_that_tests_it(tmp_path):
    write(tmp_path, "digits")
    write(tmp_path, "consistency", "refuted")
    assert predictions.prediction("odd-in-lambda")(tmp_path) == (
        "Scale `consistency`: **refuted**. Refuted at 2 of 2 problems; the worst is +0.0100 [−0.0200, +0.0400] (moons), "
        "3 seeds. Interval over seeds."
    )
    assert predictions.prediction("slope-is-minus-half")(tmp_path) == predictions.NOTHING
    assert "](../results/consistency/consistency/figures/slope.png)" in predictions.figure(tmp_path)
    assert "](../results/consistency/consistency/tables/signed.md)" in predictions.tables(tmp_path)
    assert predictions.setup(tmp_path) == (
        "Measured at the scales `consistency` (T = 40, 3 seeds, 500 points) and `digits` (T = 40, 3 seeds, 500 points)."
    )
