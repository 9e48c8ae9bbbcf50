"""`mlegfn accept`: an edit that changes no result, recorded without running anything."""

import pytest
from helpers.toy import PRETRAIN, STAGES

from mlegfn.errors import UserError
from reproduction.stage import recorded_outputs
from reproduction.workflow import dvc
from reproduction.workflow.accept import accept


def test_an_edit_is_accepted_with_its_parts(toy, capsys):
    before, contents = recorded_outputs(), toy.contents()
    toy.write("pretrain", PRETRAIN + "\n# a comment\n")
    assert accept(["pretrain@smoke"]) == 0
    assert "recorded as made by the present source code: pretrain@smoke" in capsys.readouterr().out
    assert dvc.make_plan("smoke").stale == []
    assert recorded_outputs() == before and toy.contents() == contents
    # A later checkpoint costs only what is new: the others pass as made by the present code.
    toy.edit("params.yaml", "checkpoints: [4, 8]", "checkpoints: [4, 8, 10]")
    toy.run("dvc", "repro", "--quiet", *STAGES)
    assert toy.log("pretrain@smoke").rpartition("=== 2")[2].count("trained") == 1


@pytest.mark.parametrize("name", ["pretrain", "bake@smoke", "README.md"])
def test_what_is_no_stage(untouched, name):
    with pytest.raises(UserError, match=f"^{name}: no stage of dvc.yaml"):
        accept([name])


def test_a_scale_that_is_not_there(untouched):
    with pytest.raises(UserError, match="no scale 'none'"):
        accept(["pretrain@none"])
