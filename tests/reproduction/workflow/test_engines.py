"""docs/engines.md: every line in its boxes, typed in a checkout with two quick stages, does what the page says."""

import contextlib
import hashlib
import io
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import dvc.cli
import pytest
from helpers.repository import REPOSITORY
from helpers.toy import OUTPUTS, STAGES

from reproduction import cli
from reproduction import params as settings
from reproduction.settings.yaml_file import read_yaml

PAGE = (REPOSITORY / "docs/engines.md").read_text()
BOXES = [re.sub(r"\s+#.*", "", box).splitlines() for box in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)]
NUMBER, IMAGES = "images.smoke.pretrain.stop", "data/smoke/images.txt"
MAIN = {"dvc": dvc.cli.main, "mlegfn": cli.main}
# Root reads and writes whatever the modes say, unless it gives that up (util-linux's setpriv).
ROOT = "-dac_override,-dac_read_search,-fowner"
AS_ANYBODY = ["setpriv", f"--bounding-set={ROOT}", f"--inh-caps={ROOT}"] if os.geteuid() == 0 else []


def box(first):
    """The lines of the box that begins with this line."""
    (lines,) = [lines for lines in BOXES if lines[0] == first]
    return lines


def typed(toy, line, check=True):
    """What a line prints, typed there; DVC and `mlegfn` answer in this process, which has imported them."""
    program, *words = shlex.split(line)
    if program not in MAIN or {"&&", "|"} & set(words):
        return toy.run("sh", "-c", line, check=check).stdout
    said = io.StringIO()
    with contextlib.chdir(toy.root), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = MAIN[program](words)
    assert code == 0 or not check, f"{line}: {code}\n{said.getvalue()}"
    return said.getvalue()


def sound(cache):
    """How many objects a cache of DVC has; each is what its name says."""
    objects = [path for path in Path(cache).glob("files/md5/??/*") if path.is_file()]
    for path in objects:
        name = (path.parent.name + path.name).removesuffix(".dir")
        assert hashlib.md5(path.read_bytes()).hexdigest() == name
    return len(objects)


def test_experiments(toy):
    (with_option,) = box("dvc exp run -S images.smoke.pretrain.stop=14 pretrain@smoke")
    before = (toy.root / "params.yaml").read_text()
    typed(toy, with_option)
    after = (toy.root / "params.yaml").read_text()
    assert settings.load().images["smoke"].pretrain.stop == 14
    # Comments and anchors stay; blocks that are merged are copied, and the file is another one.
    assert {line.strip() for line in before.splitlines() if line.strip().startswith("#")} <= {
        line.strip() for line in after.splitlines()
    }
    assert after.count("&cifar10-network") == 1 and "    network: {<<: *cifar10-network}\n" in before
    assert re.search(r"network: \{<<: \*cifar10-network, block_out_channels", after)
    typed(toy, "git checkout params.yaml")
    assert (toy.root / "params.yaml").read_text() == before

    toy.edit("params.yaml", "stop: 12\n", "stop: 13\n")
    edited = (toy.root / "params.yaml").read_text()
    run, show, diff, branch, remove = box("dvc exp run --name longer pretrain@smoke")
    typed(toy, run)
    assert (toy.root / "params.yaml").read_text() == edited
    shown = typed(toy, show)
    assert "longer" in shown and NUMBER in shown
    assert re.search(rf"{NUMBER} +12 +13 +1\n", typed(toy, diff))
    typed(toy, branch)
    typed(toy, remove)
    assert typed(toy, "git show longer-training:params.yaml") == edited
    changed = typed(toy, "git diff --name-only HEAD longer-training").split()
    assert "dvc.lock" in changed and "params.yaml" in changed


def test_what_differs(toy):
    params, metrics, plots = box("dvc params diff")
    definition = read_yaml(REPOSITORY / "dvc.yaml")
    assert definition["metrics"] == ["results/summary.json"] and "plots" not in definition
    with open("dvc.yaml", "a") as file:
        file.write("metrics: [results/summary.json]\n")
    for nll in (2.5, 2.25):
        Path("results/summary.json").write_text(f'{{"nll": {nll}}}')
        toy.commit()
    toy.edit("params.yaml", "stop: 12\n", "stop: 13\n")
    assert re.search(rf"{NUMBER} +12 +13\n", typed(toy, params))
    assert re.search(r"nll +2\.5 +2\.25 +-0\.25\n", typed(toy, metrics))
    assert "No plots were loaded" in typed(toy, plots)


def test_what_the_cache_loses(toy):
    """Of another commit: what DVC alone has is gone, and what git has is there."""
    dry, collect = box("dvc gc -w --dry")
    former = sound(".dvc/cache")
    Path(IMAGES).write_text("63 images")
    typed(toy, "dvc commit --quiet --force fetch@smoke")
    toy.commit("other")
    assert sound(".dvc/cache") == former + 2
    typed(toy, dry)
    assert sound(".dvc/cache") == former + 2
    assert (
        "Are you sure" in typed(toy, f"echo n | {collect}", check=False) and sound(".dvc/cache") == former + 2
    )
    typed(toy, f"echo y | {collect}")
    assert sound(".dvc/cache") == former
    typed(toy, "git checkout --quiet HEAD~1")
    said = toy.run("dvc", "checkout", "fetch@smoke", check=False).stdout
    assert "missing-files" in said and "data/smoke" in said
    assert (toy.root / "results/smoke/images/metrics/pretrain/4.json").exists()


@pytest.mark.parametrize("kind", ["symlink", "hardlink"])
def test_stages_run_with_linked_outputs(toy, kind):
    """The weights are ``persist: true``, so they lie there, linked, when their stage starts. Of what changes, DVC adds
    dvc.lock alone to what git will commit."""
    (autostage,) = box("dvc config --local core.autostage true")
    typed(toy, autostage)
    setting, relink = box("dvc config --local cache.type symlink")
    typed(toy, setting.replace("symlink", kind))
    typed(toy, relink)
    weights = Path(OUTPUTS[1], "4/weights.txt")
    linked = (lambda: weights.is_symlink()) if kind == "symlink" else (lambda: weights.stat().st_nlink == 2)
    assert linked() and not weights.stat().st_mode & 0o222
    # Both checkpoints are trained again, and give other bytes.
    toy.write(
        "pretrain", (toy.root / "src/reproduction/images/pretrain.py").read_text().replace(" on ", " with ")
    )
    toy.run(*AS_ANYBODY, "dvc", "repro", "--single-item", "pretrain@smoke")
    assert weights.read_text() == "4 steps with 64 images" and linked()
    assert sound(".dvc/cache") == 8
    status = typed(toy, "git status --porcelain").splitlines()
    assert [line for line in status if line[0] != " "] == ["M  dvc.lock"] and len(status) == 4, status


def test_a_shared_cache(toy, tmp_path):
    group, elsewhere = box("dvc config --local cache.shared group")
    remote, restore = box("dvc remote add --local --default lab ../cache")
    typed(toy, group)
    typed(toy, elsewhere)
    typed(toy, f"dvc commit --quiet --force {' '.join(STAGES)}")
    cache = tmp_path / "cache"
    assert sound(cache) == 5 and all(
        path.stat().st_mode & 0o070 == 0o070 for path in cache.glob("files/md5/??")
    )
    subprocess.run(["chmod", "-R", "a-w", cache], check=True)
    second = toy.clone(tmp_path / "second")
    typed(second, "dvc config --local cache.type symlink")
    typed(second, elsewhere)
    second.run(*AS_ANYBODY, "dvc", "checkout", *STAGES)
    assert second.contents() == toy.contents() and (second.root / IMAGES).is_symlink()
    (second.root / IMAGES).unlink()
    (second.root / IMAGES).write_text("63 images")
    done = second.run(*AS_ANYBODY, "dvc", "commit", "--force", "fetch@smoke", check=False)
    assert done.returncode and "Permission denied" in done.stdout
    third = toy.clone(tmp_path / "third")
    typed(third, remote)
    typed(third, restore)
    assert third.contents() == toy.contents() and not (third.root / IMAGES).is_symlink()
    subprocess.run(["chmod", "-R", "u+w", cache], check=True)


def test_git(toy):
    """Two branches with runs of the same stage."""
    merge, resolve, commit = box("git merge theirs")
    typed(toy, "git checkout --quiet -b theirs")
    for branch, stop in (("theirs", 13), ("main", 14)):
        typed(toy, f"git checkout --quiet {branch}")
        path = "results/smoke/images/metrics/pretrain/4.json"
        toy.edit(path, '"step": 4', f'"step": 4, "stop": {stop}')
        typed(toy, "dvc commit --quiet --force pretrain@smoke")
        toy.commit(branch)
    assert "CONFLICT" in typed(toy, merge, check=False)
    assert "pretrain@smoke: recorded differently by both sides" in typed(toy, resolve)
    typed(toy, commit)
    lock = read_yaml("dvc.lock")["stages"]
    assert list(lock) == ["fetch@smoke"] and typed(toy, "git status --porcelain") == ""


def test_snakemake_on_a_plan_of_a_dry_run(toy):
    plan, dry, target = box("mlegfn reproduce --dry-run --scale smoke")
    shutil.copytree(REPOSITORY / "profiles", "profiles")
    said = typed(toy, dry, check=False)
    assert said.count("first: mlegfn reproduce --dry-run") == 1 and "Traceback" not in said
    toy.edit("params.yaml", "train_limit: 64", "train_limit: 63")
    assert "2 of 2 stages would run" in typed(toy, plan)
    said = typed(toy, dry)
    assert all(f"rule {name}:" in said for name in STAGES) and "dry-run" in said
    said = typed(toy, f"{target} --dry-run")
    assert "rule fetch@smoke:" in said and "rule pretrain@smoke:" not in said, "of the plan, the target alone"
    assert Path(IMAGES).read_text() == "64 images"


def test_no_line_of_the_page_is_left_out():
    for first, *_ in BOXES:
        assert f'box("{first}")' in Path(__file__).read_text(), first
