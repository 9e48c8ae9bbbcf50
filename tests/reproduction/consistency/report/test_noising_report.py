"""The report of learned noising on metrics whose effects are known: verdicts, table, equal bytes."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.parts import settings_of
from helpers.repository import REPOSITORY

from mlegfn.errors import UserError
from reproduction.consistency.report import noising_evidence, noising_figure, noising_tables
from reproduction.consistency.report.evidence import KINDS, TESTS
from reproduction.consistency.report.policy_metrics import NoisingMetrics
from reproduction.consistency.settings import Consistency
from reproduction.verdicts import claims, verdict

CLAIMS = [
    claim
    for claim in claims.load(REPOSITORY / "claims/consistency.yaml", KINDS)
    if claim.test.kind in noising_evidence.KINDS
]
SETTINGS = settings_of(Consistency, "consistency", "digits").noising
BOUND = {"fixed": 0.0, "pathwise": -0.1, "score": -0.1, "tbc": -0.1}
NLL = {"fixed": 0.0, "pathwise": -0.05, "score": -0.05, "tbc": -0.05}


def write(root, bound=BOUND, nll=NLL, noise=0.001, seeds=(0, 1, 2, 3), problems=("moons", "circles")):
    """Metrics with these changes, shaken by ``noise`` over seeds."""
    draw, given = np.random.default_rng(3), SETTINGS.model_copy(update={"seeds": list(seeds)})
    folder = Path(root, "digits", "consistency", "metrics", "noising")
    folder.mkdir(parents=True)
    for problem in problems:
        runs = []
        for seed in given.seeds:
            for arm in given.arms:
                shaken = noise * draw.normal(size=3) * (arm != "fixed")
                values = {
                    "nll": nll[arm] + shaken[0],
                    "elbo_nll": bound[arm] + shaken[1],
                    "log_w_variance": -0.1 + shaken[2],
                }
                levels = {key: 2 + value for key, value in values.items()}
                levels |= {"nll_standard_error": 0.001, "nll_half": 2.01}
                changes = {key: {"value": value, "standard_error": 0.002} for key, value in values.items()}
                ratios = [[5.0, 5.0], [0.0, 0.5], [-5.0, -5.0]]
                runs.append({"arm": arm, "seed": seed, **levels, "differences": changes, "log_snr": ratios})
        products = {
            arm: {"mean_square": 4.0, "with_pathwise": 3.0, "trace": trace}
            for arm, trace in (("pathwise", 1.0), ("score", np.e), ("tbc", 1 / np.e))
        }
        value = {"runs": runs, "gradients": [products] * len(given.seeds), "points": 500, "timesteps": 20}
        (folder / f"{problem}.json").write_text(json.dumps(value))
    return NoisingMetrics("digits", given, list(problems), root)


def alike():
    return next(claim for claim in CLAIMS if claim.test.kind == "noising_alike")


def verdicts(metrics):
    report = verdict.decide(SimpleNamespace(name="digits", noising=metrics), CLAIMS, TESTS)
    return {row["id"]: row["verdict"] for row in report["claims"]}


def test_what_was_predicted_is_reproduced(tmp_path):
    assert len(CLAIMS) == 3 and set(verdicts(write(tmp_path)).values()) == {"reproduced"}


@pytest.mark.parametrize(
    "changes, refuted",
    [
        ({"bound": {**BOUND, "tbc": -0.05}}, {"tbc-on-noising-is-the-score"}),
        ({"bound": {**BOUND, "score": -0.05}}, {"tbc-on-noising-is-the-score"}),
        ({"bound": {**BOUND, "score": 0.02, "tbc": 0.02}}, {"learned-noising-tightens-the-bound"}),
        ({"nll": {**NLL, "tbc": 0.02}}, {"learned-noising-lowers-nll"}),
    ],
)
def test_what_is_otherwise_is_refuted(tmp_path, changes, refuted):
    decided = verdicts(write(tmp_path, **changes))
    assert {name for name, word in decided.items() if word == "refuted"} == refuted
    assert {word for name, word in decided.items() if name not in refuted} == {"reproduced"}


def test_noise_and_a_gain_of_nothing_leave_it_undecided_and_one_seed_untested(tmp_path):
    decided = verdicts(write(tmp_path / "noise", noise=0.02))
    assert decided["tbc-on-noising-is-the-score"] == "undecided"
    nothing = write(tmp_path / "nothing", bound=dict.fromkeys(BOUND, 0.0), noise=0.01)
    assert verdicts(nothing)["tbc-on-noising-is-the-score"] == "undecided"
    # Equal arms are no evidence where there is nothing to gain; nor are unequal ones.
    for name, score in (("equal", 0.0), ("unequal", 0.5)):
        metrics = write(tmp_path / name, bound={**BOUND, "pathwise": 0.01, "tbc": 0.0, "score": score})
        evidence = noising_evidence.noising_alike(SimpleNamespace(noising=metrics), alike().test)
        assert {part.outcome for part in evidence.parts} == {"undecided"} and not evidence.untested
        assert "moons: pathwise gains nothing that could be told, below 0.0" in evidence.notes
    assert verdicts(write(tmp_path / "one", seeds=[0]))["tbc-on-noising-is-the-score"] == verdict.UNTESTED
    assert set(verdicts(NoisingMetrics("smoke", None, [])).values()) == {verdict.UNTESTED}


def test_the_table_has_cosines_and_log_ratios_of_traces(tmp_path):
    metrics = write(tmp_path, noise=1e-9)
    row = noising_tables.arms(metrics).set_index(["problem", "arm"]).loc["circles", "tbc"]
    assert row["elbo_nll_change"] == pytest.approx(-0.1) and row["cosine"] == pytest.approx(0.75)
    assert row["log_trace"] == pytest.approx(-1) and row["log_trace_deviation"] == pytest.approx(0)
    text = noising_tables.make(metrics)["noising.md"]
    assert "| −0.1000 ± 0.0000 |" in text and "4 seeds, 500 test data" in text and "nan" not in text


def test_equal_metrics_make_equal_bytes(tmp_path):
    made = [
        (noising_figure.draw(metrics), noising_figure.caption(metrics), noising_tables.make(metrics))
        for metrics in (write(tmp_path / name) for name in ("one", "two"))
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("bound, scale", [(-0.1, "linear"), (-2.0, "symlog")])
def test_the_axis_has_round_ticks_whether_or_not_an_effect_is_large(tmp_path, bound, scale):
    figure = noising_figure.plot(write(tmp_path, bound={**BOUND, "tbc": bound}))
    above = figure.axes[0]
    figure.canvas.draw()
    texts = [text.get_text() for text in above.get_yticklabels()]
    assert above.get_yscale() == scale and len(texts) >= 3
    assert not any("times" in text for text in texts), texts


def test_a_file_that_misses_a_run_names_its_stage(tmp_path):
    metrics = write(tmp_path)
    path = tmp_path / "digits/consistency/metrics/noising/moons.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "runs": value["runs"][1:]}))
    with pytest.raises(UserError, match="no fixed with seed 0; run `dvc repro noising@digits-moons`"):
        NoisingMetrics("digits", metrics.settings, ["moons"], tmp_path)
