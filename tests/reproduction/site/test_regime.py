"""docs/consistency.md quotes the paper's regime, and says so first where the paper's arm wins there."""

import json

from reproduction.site.predictions import NOTHING, QUOTATIONS


def claims(root, scale, verdict):
    folder = root / f"results/{scale}/images/report"
    folder.mkdir(parents=True)
    row = {
        "id": "reweighted-at-equal-steps",
        "verdict": verdict,
        "estimate": 0.0012,
        "interval": [0.0004, 0.002],
        "unit": "bits/dim",
        "where": "checkpoint 10000",
        "seeds": 5,
    }
    (folder / "verdict.json").write_text(json.dumps({"claims": [row]}))


def test_nothing_is_said_without_results(tmp_path):
    assert QUOTATIONS["regime-first"](tmp_path) == ""
    assert QUOTATIONS["regime-verdicts"](tmp_path) == QUOTATIONS["regime-alignment"](tmp_path) == NOTHING


def test_a_win_of_the_papers_arm_stands_first_and_a_loss_does_not(tmp_path):
    claims(tmp_path, "fixed_t50", "refuted")
    assert QUOTATIONS["regime-first"](tmp_path) == ""
    assert QUOTATIONS["regime-verdicts"](tmp_path).splitlines()[2] == (
        "| `fixed_t50` | +0.0012 [+0.0004, +0.0020] bits/dim: **refuted** | – | – | – |"
    )
    claims(tmp_path, "fixed_t1000", "reproduced")
    assert "at `fixed_t1000`" in QUOTATIONS["regime-first"](tmp_path)


def test_both_gradients_stand_in_a_row_a_checkpoint(tmp_path):
    folder = tmp_path / "results/fixed_t250/images/metrics/alignment"
    folder.mkdir(parents=True)
    for seed, both in enumerate((-2.0, -2.0)):
        products = {"bound_squared": 4.0, "bound_variance": both, "variance_squared": 4.0}
        record = {"timesteps": 250, "checkpoint": 10000, "seed": seed, "variances": {"large": products}}
        (folder / f"10000-{seed}.json").write_text(json.dumps(record))
    assert QUOTATIONS["regime-alignment"](tmp_path).splitlines() == [
        "| T | checkpoint | `large`: ∇N·∇V/‖∇N‖ | cosine |",
        "|--:|--:|--:|--:|",
        "| 250 | 10,000 | −1.0 ± 0.0 | −0.50 ± 0.00 |",
    ]
