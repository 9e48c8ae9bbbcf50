"""docs/consistency.md quotes the figure and the changes of every P_B, of the best scale that has them."""

from reproduction.site import policies
from reproduction.site.predictions import NOTHING, QUOTATIONS, SCALES


def test_the_changes_of_every_p_b_stand_in_a_row_a_problem(tmp_path):
    folder = tmp_path / "results/digits/consistency/tables"
    folder.mkdir(parents=True)
    (folder / "policy.csv").write_text(
        "problem,arm,nll_change\nmoons,uniform_single,0.0\nmoons,tbc,-0.02\nmoons,ordered,-0.1\n"
        "circles,uniform_single,0.0\ncircles,tbc,0.01\ncircles,ordered,-0.2\n"
    )
    assert QUOTATIONS["policy-table"](tmp_path).splitlines() == [
        "| ΔNLL, nats | tbc | ordered |",
        "|:--|--:|--:|",
        "| moons | −0.0200 | −0.1000 |",
        "| circles | +0.0100 | −0.2000 |",
        "",
        "Every arm in full: [table](../results/digits/consistency/tables/policy.md).",
    ]


def test_the_figure_stands_with_its_caption(tmp_path):
    assert (
        policies.figure(tmp_path, SCALES, "policy", "which policy") is None
        and QUOTATIONS["policy-figure"](tmp_path) == NOTHING
    )
    for scale in ("digits", "consistency"):
        folder = tmp_path / f"results/{scale}/consistency/figures"
        folder.mkdir(parents=True)
        (folder / "policy.md").write_text(f"**Which policy** at {scale}\n")
    assert QUOTATIONS["policy-figure"](tmp_path) == (
        "![which policy, at the scale consistency](../results/consistency/consistency/figures/policy.png)\n\n"
        "**Which policy** at consistency"
    )
