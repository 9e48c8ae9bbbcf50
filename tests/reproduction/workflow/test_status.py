"""`mlegfn status`: what is done, stale, follows and runs, and how long is left."""

import time

from helpers.toy import STAGES

from reproduction.workflow import dvc, running, status


def look(capsys):
    """{stage, or "smoke:": its line}."""
    assert status.show("smoke") == 0
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[1]: line for line in lines[:-1]} | {"smoke:": lines[-1]}


def test_status_beside_a_run(toy, capsys):
    """What runs holds its log, and DVC its lock on what is written."""
    toy.edit("params.yaml", "train_limit: 64", "train_limit: 63")
    with open(running.log_path("fetch@smoke"), "a") as log:
        running.hold(log)
        log.write(time.strftime("\n=== %Y-%m-%d %H:%M:%S mlegfn stage images.fetch (process 1)\n"))
        log.write("\rimages:   0%|     | 0/8 [00:00<?]\rimages:  50%|###  | 4/8 [00:01<00:01, loss=0.25]")
        log.flush()
        shown = look(capsys)
    assert shown["fetch@smoke"].startswith("running fetch@smoke")
    assert (
        "for " in shown["fetch@smoke"]
        and "50% 4/8" in shown["fetch@smoke"]
        and "###" not in shown["fetch@smoke"]
    )
    assert shown["pretrain@smoke"] == "follows pretrain@smoke  fetch@smoke"
    assert shown["smoke:"].startswith("smoke: 0 done, 1 stale, 1 follow; about ")


def test_status_after_a_change(toy, capsys, monkeypatch):
    changes = {"pretrain@smoke": ["params.yaml images.smoke.pretrain changed"]}
    plan = dvc.Plan(STAGES, {"fetch@smoke": [], "pretrain@smoke": ["fetch@smoke"]}, changes)
    monkeypatch.setattr(dvc, "make_plan", lambda scale: plan)
    shown = look(capsys)
    assert shown["fetch@smoke"] == "done    fetch@smoke"
    assert shown["pretrain@smoke"] == "stale   pretrain@smoke  params.yaml images.smoke.pretrain changed"
    assert shown["smoke:"].startswith("smoke: 1 done, 1 stale; about "), "by the record of its last run"
