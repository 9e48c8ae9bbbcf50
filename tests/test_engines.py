"""One graph, two engines: the scale smoke end to end through Snakemake, and stages of several kinds through DVC."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, copy_repository

from mlegfn import config, families, graph
from mlegfn.pipeline import engine, lockfile, view

TRACKED = ("metrics", "tables", "figures", "report")
RUN = re.compile(r"^=== 2\d\d\d-", re.MULTILINE)


def results(checkout):
    """{path: bytes} of everything under results/smoke that git tracks."""
    root = checkout.root / "results" / "smoke"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for kind in TRACKED
        for path in sorted((root / kind).rglob("*"))
        if path.is_file()
    }


def runs(checkout):
    """{stage: how often it has run}, from the logs."""
    logs = (checkout.root / "results" / "smoke" / "logs").glob("*@*.log")
    return {log.stem: len(RUN.findall(log.read_text())) for log in logs}


def dvc_status(checkout, *dvc):
    """The stages of the scale that `dvc status` calls changed. By `mlegfn dvc`, which is DVC started by the warm
    server and takes half as long, unless told ``"dvc"``."""
    shown = json.loads(checkout.run(*(dvc or ("mlegfn", "dvc")), "status", "--json").stdout)
    return {name for name in shown if "@" in name}


def lock_entries(checkout):
    return lockfile.split((checkout.root / "dvc.lock").read_text())


def stages_of(*patterns):
    """The stage names of the scale smoke that match one of the patterns."""
    names = graph.names(graph.derive(config.load(REPOSITORY / "params.yaml")), "smoke")
    return {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}


REPORT = ("figures@.*", "tables@.*", "verdict@.*")
# Of the kinds that plain DVC runs: the first, segments that follow each other, folders and files, several keys.
KINDS = ("fetch", "pretrain", "finetune", "nll", "family", "station_figure", "verdict")


def test_first_run_shows_what_there_is(snakemade):
    shown = snakemade.reproduced
    assert re.search(r"results/smoke/figures/figure1\..*\.pdf", shown)
    assert "results/smoke/tables/nll.csv" in shown
    verdict = (snakemade.root / "results/smoke/report/verdict.md").read_text()
    assert verdict.split("<details>")[0].strip() in shown
    assert set(runs(snakemade).values()) == {1}
    assert set(runs(snakemade)) == stages_of(".*")


@pytest.mark.again
def test_dvc_and_snakemake_agree_byte_for_byte(snakemade, tmp_path, monkeypatch):
    """DVC runs a stage of each of KINDS on what Snakemake's run has left before it: the same bytes, the same entries.

    Not the whole scale: for each stage DVC parses and writes all of dvc.lock, which took most of ten minutes.
    """
    other = snakemade.duplicate(tmp_path / "checkout")
    monkeypatch.chdir(other.root)
    stages = engine.read("smoke").stages
    chosen = {kind: name for name in stages if (kind := name.split("@")[0]) in KINDS}
    assert set(chosen) == set(KINDS)
    for name in chosen.values():
        for out in stages[name].outs:
            path = other.root / out
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(other.root / ".dvc/cache/runs", ignore_errors=True)  # or DVC fetches what there was
    (other.root / "dvc.lock").unlink()
    other.run("dvc", "repro", "--single-item", "graph", *chosen.values())
    ran = {name for name, times in runs(other).items() if times == 2}
    assert ran == set(chosen.values())
    assert results(other) == results(snakemade)
    by_dvc, by_us = lock_entries(other), lock_entries(snakemade)
    assert by_dvc.pop("graph") and set(by_dvc) == ran
    assert list(by_us) == sorted(by_us), "reproduce sorts dvc.lock"
    assert {name: by_us[name] for name in ran} == by_dvc, "dvc.lock by entries is dvc.lock"
    assert dvc_status(snakemade, "dvc") == set()


def test_nothing_to_do_whatever_the_times_of_files(smoke):
    before, entries = runs(smoke), lock_entries(smoke)
    # As after a kill -9 behind the last stage: nobody has sorted what the stages recorded.
    (smoke.root / "dvc.lock").write_text(lockfile.join(dict(reversed(entries.items()))))
    shown = smoke.run("mlegfn", "reproduce", "--scale", "smoke").stdout
    assert "nothing to do" in shown and "figures/figure1." in shown
    assert list(lock_entries(smoke).items()) == list(entries.items())
    for path in smoke.root.rglob("*"):
        if path.is_file() and not {".git", ".dvc", ".snakemake"} & set(path.parts):
            path.touch()
    assert dvc_status(smoke) == set()
    assert "Nothing to be done" in smoke.run("snakemake", "-n", "--config", "scale=smoke").stdout
    assert runs(smoke) == before


@pytest.mark.again
def test_one_setting_runs_exactly_what_depends_on_it(smoke):
    """The planar problems alone, then what follows from them, in Snakemake as DVC says."""
    before = runs(smoke)
    smoke.edit("params.yaml", "      pretrain_steps: 20\n", "      pretrain_steps: 21\n")
    changed = stages_of("planar@.*")
    assert dvc_status(smoke) == changed
    smoke.run("mlegfn", "reproduce", "--scale", "smoke")
    after = runs(smoke)
    ran = {name for name in after if after[name] > before[name]}
    assert ran == changed | stages_of(*REPORT)
    assert dvc_status(smoke) == set()


@pytest.mark.parametrize(
    "before, after, patterns",
    [
        ("    nll:\n      seed: 0", "    nll:\n      seed: 1", ["nll@.*"]),
        ("    quality:\n      seed: 0", "    quality:\n      seed: 1", ["quality@.*"]),
        ("      hidden: 8\n      layers: 1", "      hidden: 9\n      layers: 1", ["planar@.*"]),
        ("        weight: 0.0001\n", "        weight: 0.0002\n", [r"finetune@smoke-\d+-tbc-\d"]),
        ("        lr: 0.002\n        hidden: 8", "        lr: 0.003\n        hidden: 8", ["family@.*"]),
        ("      train_limit: 64", "      train_limit: 60", ["fetch@.*"]),
        ("      save_every_minutes: 1.0", "      save_every_minutes: 2.0", []),
        (
            "      checkpoints:\n      - 4",
            "      checkpoints:\n      - 2\n      - 4",
            [
                r"pretrain@smoke-[24]",
                r"finetune@smoke-2-.*",
                r"nll@smoke-(baseline-2|2-.*)",
                *REPORT,
            ],
        ),
        (
            "      seeds:\n      - 0\n      - 1\n      arms:\n      - simple\n      - tbc\n      steps",
            "      seeds:\n      - 0\n      - 1\n      - 5\n      arms:\n      - simple\n      - tbc\n      steps",
            [r"(finetune|nll)@smoke-\d+-\w+-5", *REPORT],
        ),
    ],
    ids=[
        "nll.seed",
        "quality.seed",
        "planar.hidden",
        "λ, which the controls have no use for",
        "families.default",
        "data",
        "no result depends on it",
        "a checkpoint more",
        "a seed more",
    ],
)
def test_what_a_setting_makes_stale(smoke, monkeypatch, before, after, patterns):
    smoke.edit("params.yaml", before, after)
    smoke.run("mlegfn", "graph")
    monkeypatch.chdir(smoke.root)
    names = graph.names(graph.derive(config.load()), "smoke")
    expected = {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}
    assert engine.ask_dvc("smoke").stale == expected


def test_what_is_stale_is_what_dvc_says(smoke, monkeypatch):
    """Settings, a source, an output that is gone, one that is altered, a stage never run: by DVC's command line."""
    smoke.edit("params.yaml", "    nll:\n      seed: 0", "    nll:\n      seed: 1")
    smoke.edit("params.yaml", "      checkpoints:\n      - 4", "      checkpoints:\n      - 2\n      - 4")
    (smoke.root / "src/mlegfn/stages/gradients.py").write_text("# nothing\n")
    (smoke.root / "results/smoke/metrics/quality/baseline-8.json").unlink()
    (smoke.root / "results/smoke/tables/nll.csv").write_text("altered")
    smoke.run("mlegfn", "graph")
    monkeypatch.chdir(smoke.root)
    stale = engine.ask_dvc("smoke").stale
    assert {"pretrain@smoke-2", "gradients@smoke-hypergrid", "quality@smoke-baseline-8"} < stale
    assert dvc_status(smoke, "dvc") == dvc_status(smoke) == stale


def test_snakemake_is_handed_what_dvc_said_once(smoke, monkeypatch):
    monkeypatch.chdir(smoke.root)
    smoke.edit("params.yaml", "lr: 0.002", "lr: 0.003")
    smoke.run("mlegfn", "graph")
    said = engine.ask_dvc("smoke")
    assert said.stale
    with view.handed_over("smoke", said, {}) as environment:
        monkeypatch.setattr(engine, "ask_dvc", lambda scale: f"asked for {scale}")
        monkeypatch.setenv(view.GIVEN, environment[view.GIVEN])
        assert view.ask("smoke").stages == said.stages
        monkeypatch.setenv(view.GIVEN, environment[view.GIVEN])
        assert view.ask("smoke") == "asked for smoke"
    with view.handed_over("digits", said, {}) as environment:
        monkeypatch.setenv(view.GIVEN, environment[view.GIVEN])
        assert view.ask("smoke") == "asked for smoke"
    monkeypatch.delenv(view.GIVEN, raising=False)
    monkeypatch.setattr(graph, "checked", lambda scale: pytest.fail("graph.json is looked at"))
    with pytest.raises(pytest.fail.Exception, match="looked at"):
        view.ask("smoke")


def test_source_that_makes_the_same_data_stops_there(smoke):
    """Only what reads the changed source runs; equal outputs make nothing after it stale."""
    before = runs(smoke)
    with open(smoke.root / "src/mlegfn/stages/fetch.py", "a") as file:
        file.write("\n# nothing\n")
    smoke.run("snakemake", "--cores", "2", "nll@smoke-baseline-4", "--config", "scale=smoke")
    after = runs(smoke)
    assert {name for name in after if after[name] > before[name]} == {"fetch@smoke"}


def test_failed_stage_is_never_recorded(smoke):
    before = lock_entries(smoke)
    source = smoke.root / "src/mlegfn/stages/tables.py"
    good = source.read_text()
    source.write_text('"""Broken."""\n\n\ndef run(*_, **__):\n    raise RuntimeError("broken on purpose")\n')
    failed = smoke.run("mlegfn", "reproduce", "--scale", "smoke", check=False)
    assert failed.returncode == 1
    assert "tables@smoke failed" in failed.stdout and "broken on purpose" in failed.stdout
    assert "results/smoke/logs/tables@smoke.log" in failed.stdout
    assert lock_entries(smoke) == before
    assert "tables@smoke" in dvc_status(smoke)
    again = ("mlegfn", "dvc", "repro", "--single-item", "tables@smoke")
    assert smoke.run(*again, check=False).returncode != 0
    assert lock_entries(smoke) == before
    source.write_text(good)
    smoke.run(*again)
    assert lock_entries(smoke) == before and dvc_status(smoke) == set()


def test_user_error_in_a_stage_is_one_line_and_exit_code_2(smoke):
    path = smoke.root / "data/smoke/images.safetensors"
    (smoke.root / "src/mlegfn/stages/tables.py").write_text(
        '"""Refuses."""\n\nfrom mlegfn.errors import UserError\n\n\n'
        'def run(*_, **__):\n    raise UserError("data/x: altered; run `make reproduce`")\n'
    )
    failed = smoke.run("mlegfn", "reproduce", "--scale", "smoke", check=False)
    assert failed.returncode == 2
    assert "mlegfn: data/x: altered" in failed.stdout
    assert "Traceback" not in failed.stdout
    assert path.exists()


def test_deleted_and_altered_artifacts_are_made_again(smoke):
    before = results(smoke)
    (smoke.root / "results/smoke/metrics/nll/baseline-4.json").unlink()
    (smoke.root / "results/smoke/tables/nll.csv").write_text("altered")
    smoke.run("mlegfn", "reproduce", "--scale", "smoke")
    assert results(smoke) == before


def test_two_runs_at_once_are_refused(smoke):
    from filelock import FileLock

    with FileLock(smoke.root / ".mlegfn.lock"):
        refused = smoke.run("mlegfn", "reproduce", "--scale", "smoke", check=False)
    assert refused.returncode == 2
    assert refused.stdout.count("\n") == 1 and "another `mlegfn reproduce`" in refused.stdout


def test_stale_graph_is_refused_by_dvc_and_mended_by_reproduce(smoke):
    smoke.edit("graph.json", '"seed": 1', '"seed": 7')
    refused = smoke.run("dvc", "repro", "graph", check=False)
    assert refused.returncode != 0 and "run `mlegfn graph`" in refused.stdout
    assert "brought up to date" in smoke.run("mlegfn", "reproduce", "--scale", "smoke").stdout


def test_clean_scale_touches_no_other(smoke):
    other = smoke.root / "results" / "smoke-2" / "metrics" / "x.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    smoke.run("mlegfn", "clean-scale", "--scale", "smoke")
    assert not (smoke.root / "results/smoke").exists() and not (smoke.root / "data/smoke").exists()
    assert other.exists()
    assert smoke.run("mlegfn", "clean-scale", "--scale", "../x", check=False).returncode == 2


# The description of the graph itself, at every scale.


@pytest.fixture(scope="module")
def every_scale(tmp_path_factory, warm_environment):
    return copy_repository(tmp_path_factory.mktemp("scales") / "checkout", warm_environment)


def test_graph_is_up_to_date():
    assert (REPOSITORY / "graph.json").read_text() == graph.render(config.load(REPOSITORY / "params.yaml"))


def test_our_resolution_is_dvcs(every_scale, monkeypatch):
    """`mlegfn plan` fills dvc.yaml in without DVC; stage for stage it is what DVC makes of it."""
    monkeypatch.chdir(every_scale.root)
    ours, dvcs = engine.read(), engine.ask_dvc(freshness=False)
    assert list(ours.stages) == list(dvcs.stages)
    for name, stage in dvcs.stages.items():
        assert ours.stages[name] == stage, name
    assert ours.order() == dvcs.order()


@pytest.mark.parametrize("scale", ["digits", "smoke", "cifar10", "cifar10-hour", "cifar10-cpu"])
def test_plan_is_a_script_in_order(every_scale, monkeypatch, scale):
    monkeypatch.chdir(every_scale.root)
    script = every_scale.run("mlegfn", "plan", "--scale", scale).stdout
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    commands = [line for line in script.splitlines() if line.startswith("mlegfn stage")]
    pipeline = engine.read(scale)  # which is DVC's, as the test before this one says
    place = {stage.name: commands.index(stage.cmd) for stage in pipeline.stages.values()}
    assert sorted(place.values()) == list(range(len(commands)))
    for name, before in pipeline.upstream.items():
        assert all(place[other] < place[name] for other in before)


def test_snakemake_resolves_the_gpu_scales(every_scale):
    shown = every_scale.run("snakemake", "-n", "--config", "scale=cifar10-hour").stdout
    assert re.search(r"pretrain@cifar10-hour-20000 +1", shown)


def test_a_gpu_scale_without_gpu_is_refused_at_once(every_scale):
    every_scale.environment["CUDA_VISIBLE_DEVICES"] = ""
    refused = every_scale.run("mlegfn", "reproduce", "--scale", "cifar10", check=False)
    assert refused.returncode == 2 and "--allow-cpu" in refused.stdout and "Traceback" not in refused.stdout


def imported(module, seen):
    """Our modules that ``module`` (a path below src) imports, directly or not, lazily or not."""
    if module in seen:
        return seen
    seen.add(module)
    for node in ast.walk(ast.parse(module.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlegfn"):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("mlegfn")]
        for name in names:
            path = REPOSITORY / "src" / name.replace(".", "/")
            for file in (path.with_suffix(".py"), path / "__init__.py"):
                if file.exists():
                    imported(file, seen)
    return seen


# Read by every stage, and no result depends on them that its settings do not already show.
PLUMBING = {"__init__", "config", "setting", "divergence_settings", "validation", "yaml_file", "libyaml"}
PLUMBING |= {"errors", "artifacts", "paths", "training_settings", "registry"}
PLUMBING |= {f"gallery/settings/{name}" for name in ("points", "images", "likelihood", "text")}
# What mlegfn.data.load imports, which only fetch calls; to the others mlegfn.data is images.py.
SOURCES = {
    f"data/{name}"
    for name in ("archive", "cifar10", "cifar10_batches", "cifar10_mirror", "containers", "digits")
}


@pytest.mark.parametrize("stage", graph.STAGES)
def test_a_stage_depends_on_the_source_that_it_imports(stage, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    pipeline = engine.read("smoke")
    deps = next(s for s in pipeline.stages.values() if s.name.startswith(f"{stage}@")).deps
    sources = imported(REPOSITORY / "src/mlegfn/stages" / f"{stage}.py", set())
    if stage == "family":  # imports its family by name; at `digits` each has a stage of its own
        stages = engine.read("digits").stages
        for name in families.names():
            own = imported(REPOSITORY / "src/mlegfn/families" / f"{name}.py", set(sources))
            check_sources(stage, own, stages[f"family@digits-{name}"].deps)
        return
    if stage == "station":  # likewise; at smoke some stations, at the scale `gallery` all
        stages = engine.read("gallery").stages
        for name in config.load().scales["gallery"].gallery.names:
            own = imported(REPOSITORY / "src/mlegfn/gallery" / f"{name}.py", set(sources))
            check_sources(stage, own, stages[f"station@gallery-{name}"].deps)
        return
    check_sources(stage, sources, deps)


def check_sources(stage, sources, deps):
    exempt = PLUMBING if stage == "fetch" else PLUMBING | SOURCES
    undeclared = {
        str(source.relative_to(REPOSITORY))
        for source in sources
        if source.relative_to(REPOSITORY / "src/mlegfn").with_suffix("").as_posix() not in exempt
        and source.name != "__init__.py"
        and not any((REPOSITORY / dep) in (source, *source.parents) for dep in deps)
    }
    assert not undeclared, f"dvc.yaml: {stage} imports what its deps do not name"


def leaves(block, prefix):
    for key in type(block).model_fields:
        value = getattr(block, key)
        if hasattr(type(value), "model_fields"):
            yield from leaves(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}"


# Settings that name stages, or that no result depends on; families.settings is empty at smoke.
NO_PARAMETER = {"accelerator", "engine.cuda_graphs", "engine.save_every_minutes", "families.settings"}
NO_PARAMETER |= {"engine.live"}


def test_every_setting_is_a_parameter_of_a_stage(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    read = {key for stage in engine.read("smoke").stages.values() for key in stage.params}
    unread = {
        key.removeprefix("scales.smoke.")
        for key in leaves(config.load().scales["smoke"], "scales.smoke")
        if not any(key == r or key.startswith(f"{r}.") for r in read)
    }
    assert unread == NO_PARAMETER


def test_no_address_in_the_lock():
    assert "://" not in (REPOSITORY / "requirements.lock").read_text()


def test_entries_of_a_lock_that_dvc_did_not_write():
    assert lockfile.split("schema: '2.0'\nstages:\n  a@b:\n    cmd: x\n") == {"a@b": "  a@b:\n    cmd: x\n"}
    assert lockfile.split("schema: '2.0'\nstages:\n  a@b: {cmd: x}\n") is None
    assert lockfile.split("<<<<<<< ours\nschema: '2.0'\nstages:\n") is None
    assert lockfile.split("schema: '2.0'\nstages:\n  a@b:\n    cmd: x\ndatasets: []\n") is None


def test_results_hold_no_times_and_no_names(snakemade):
    """Metrics of two runs must be equal; a machine's name or path in them would betray this one."""
    for path, content in results(snakemade).items():
        if path.endswith((".json", ".csv", ".md")):
            assert str(snakemade.root).encode() not in content, path
            assert str(Path.home()).encode() + b"/" not in content, path


def test_reading_stages_again_sees_what_has_changed(tmp_path, monkeypatch):
    """Of equal length, at equal times: what was read once is known by content."""
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", graph.GRAPH):
        shutil.copy(REPOSITORY / name, tmp_path)
    before, status = engine.read("smoke"), os.stat("dvc.yaml")
    before.stages.clear()
    assert "tables@smoke" in engine.read("smoke").stages, "a caller's own"
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("mlegfn stage tables", "mlegfn stage tabled"))
    os.utime("dvc.yaml", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert engine.read("smoke").stages["tables@smoke"].cmd.startswith("mlegfn stage tabled ")
    Path("dvc.yaml").write_text(text)
    graph_text = Path(graph.GRAPH).read_text()
    Path(graph.GRAPH).write_text(graph_text.replace('"smoke-12"', '"smoke-13"'))
    assert "pretrain@smoke-13" in engine.read("smoke").stages


def test_dvc_s_processes_build_no_settings():
    """Which takes them as long as their own work. They are the ones in between: for each stage there is one."""
    code = "import sys; from mlegfn.pipeline import dvc_content, lockfile, provenance; sys.exit('mlegfn.config' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
