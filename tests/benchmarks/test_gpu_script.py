"""benchmarks/gpu.sh and what it runs, as far as a CPU can try it out."""

import json
import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from helpers.repository import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
sys.path.insert(0, str(REPOSITORY / "benchmarks" / "gpu"))

import budget
import hour
import install
import training

from reproduction.params import load

SCRIPTS = ("benchmarks/gpu.sh", "benchmarks/gpu_wheels.sh")


@pytest.fixture
def environment(tmp_path):
    return {
        **{key: value for key, value in os.environ.items() if key not in ("ARCHIVE", "MINUTES")},
        "PYTHON": sys.executable,
        "CUDA_VISIBLE_DEVICES": "",
        "WORK": str(tmp_path / "work"),
        "OUT": str(tmp_path / "out"),
        "WHEELS": str(tmp_path / "no-wheels"),
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_shell_can_read_it(script):
    subprocess.run(["bash", "-n", REPOSITORY / script], check=True)


def test_a_wrong_word_and_a_missing_gpu_are_one_line(environment):
    def said(*words):
        command = [REPOSITORY / "benchmarks/gpu.sh", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 2
        return done.stderr.strip().splitlines()

    assert said("mesure")[0].startswith("gpu.sh: mesure: no such piece")
    assert ["finds no GPU" in line for line in said("run")] == [True]


def test_what_the_wheels_script_asks_for_is_in_the_lock_file():
    script = (REPOSITORY / "benchmarks/gpu_wheels.sh").read_text()
    names = script.split('names="')[1].split('"')[0].split()
    locked = {line.split("==")[0] for line in (REPOSITORY / "requirements.lock").read_text().splitlines()}
    assert len(names) > 20 and set(names) <= locked


def test_the_hour_runs_in_tiny_and_goes_on_where_it_was(environment):
    command = [REPOSITORY / "benchmarks/gpu.sh", "--dry-run-cpu", "run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout
    assert re.search(r"^(\d+) of \1 stages done$", printed, re.MULTILINE), printed
    # Labelled by the archive's name, never as CIFAR-10.
    folder = Path(environment["WORK"]) / "hour"
    assert [each.name for each in (folder / "results").iterdir()] == ["tiny_hour"]
    assert "simple_tbc 2-0" in printed and "bits/dim" in printed
    metrics = folder / "results/tiny_hour/images/metrics"
    file = metrics / "nll/simple_tbc/2-0.json"
    nll = json.loads(file.read_text())
    assert (nll["images"], nll["network_evaluations_per_image"]) == (8, 4) and nll["log_p"]["images"] == 4
    assert {each.name for each in (metrics / "nll").iterdir()} == {"baseline", *hour.ARMS}
    assert all((metrics / "finetune" / arm / "choice.json").exists() for arm in hour.ARMS)
    # What the machine gives back: at most 8 files under 16 MiB.
    sizes = [file.stat().st_size for file in Path(environment["OUT"]).iterdir()]
    assert 0 < len(sizes) <= 8 and max(sizes) < 2**24

    # Called again it has nothing to do; half of a checkpoint does not count.
    settings = load(folder / "params.yaml").images["tiny_hour"]
    assert hour.Schedule(folder, hour.stages("tiny_hour", hour.ARMS)).next({}) is None
    assert hour.finished(folder, "tiny_hour", settings) == 1
    file.unlink()
    assert hour.finished(folder, "tiny_hour", settings) == 0


def test_a_stage_starts_when_those_before_it_are_done(tmp_path):
    stages, order = hour.stages("cifar10_hour", hour.ARMS), []
    schedule = hour.Schedule(tmp_path, stages)
    while (stage := schedule.next({})) is not None:
        order.append(stage)
        schedule.ended(stage, 0)
    assert order == list(schedule.stages)
    for stage, (words, before) in schedule.stages.items():
        assert words[1] == "cifar10_hour" and all(order.index(each) < order.index(stage) for each in before)

    again = hour.Schedule(tmp_path, stages)
    assert again.next({}) is None
    (again.logs / "nll-reweighted.done").unlink()
    assert again.next({}) == "nll-reweighted" and again.next({"nll-reweighted": None}) is None
    again.ended("nll-reweighted", 1)
    assert again.next({}) is None, "what has failed is not started again"


def test_the_folder_s_settings_are_those_that_were_written(tmp_path):
    scale = hour.without_others(load(REPOSITORY / "params.yaml").images["cifar10_hour"])
    for count in (2, 1):  # written again with fewer, as the report does
        hour.write(tmp_path, "birds_hour", budget.with_checkpoints(scale, count))
        params = load(tmp_path / "params.yaml")
        written = params.images["birds_hour"]
        assert written.pretrain.checkpoints == scale.pretrain.checkpoints[:count]
        assert written.finetune.all.search.checkpoint == scale.pretrain.checkpoints[0]
        assert "birds_hour" in params.image_scales and params.items("images", "birds_hour") == list(hour.ARMS)


def test_a_checkpoint_is_finished_when_every_seed_has_its_nll(tmp_path):
    scale = load(REPOSITORY / "params.yaml").images["smoke"]
    nll = tmp_path / "results/any/images/metrics/nll"
    steps = [4, 8]
    files = [nll / arm / f"{step}-{seed}.json" for arm in hour.ARMS for step in steps for seed in (0, 1)]
    files += [nll / "baseline" / f"{step}-{seed}.json" for step in (8, 12) for seed in (0, 1)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert hour.finished(tmp_path, "any", scale) == 2
    (nll / "baseline" / "12-1.json").unlink()  # a segment after the second checkpoint
    assert hour.finished(tmp_path, "any", scale) == 1
    (nll / "simple" / "4-1.json").unlink()
    assert hour.finished(tmp_path, "any", scale) == 0


def wheel(folder, name, version, *requires, tag="py3-none-any"):
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {text}" for text in requires)]
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n\n")
    return path


def test_only_what_the_image_lacks_is_unpacked(tmp_path):
    made = [
        wheel(tmp_path, "diffusers", "1.0", "hub>=2", "helper", 'extra-thing; extra == "test"'),
        wheel(tmp_path, "hub", "2.1"),
        wheel(tmp_path, "helper", "1.0", "deep"),
        wheel(tmp_path, "deep", "1.0"),
        wheel(tmp_path, "unrelated", "9"),
    ]
    wheels = {install.metadata(path)["Name"]: (path, install.metadata(path)) for path in made}
    image = {"safetensors": "0.8", "pydantic": "2.12", "ruamel.yaml": "0.18", "tabulate": "1"}
    image |= {"tqdm": "4", "filelock": "3", "pillow": "11", "hub": "1.9", "deep": "3"}
    chosen, lacking = install.wanted(wheels, image.get)
    assert {path.name.split("-")[0] for path in chosen} == {"diffusers", "hub", "helper"}
    assert lacking == []
    chosen, lacking = install.wanted(wheels, (image | {"hub": "2.0", "pydantic": "1.0"}).get)
    assert {path.name.split("-")[0] for path in chosen} == {"diffusers", "helper"}
    assert len(lacking) == 1 and "pydantic>=2.10: the image has 1.0" in lacking[0]


def test_a_wheel_for_another_python_is_named(tmp_path):
    path = wheel(tmp_path, "pydantic", "2.12", tag="cp39-cp39-manylinux2014_x86_64")
    image = dict.fromkeys(["diffusers", "ruamel.yaml", "tabulate", "tqdm", "filelock", "pillow"], "1")
    image["safetensors"], image["ruamel.yaml"] = "0.8", "0.18"
    about = Message()
    chosen, lacking = install.wanted({"pydantic": (path, about)}, image.get)
    assert chosen == [] and "is not for Python" in lacking[0]


def test_the_time_in_which_any_kernel_ran():
    assert training.union([(0, 10), (2, 5), (8, 12), (20, 21)]) == 13
    assert training.union([]) == 0


def test_a_gpu_compares_the_stock_loop_with_bf16_and_compilation_allowed_to_neither_and_both():
    compute = load(REPOSITORY / "params.yaml").images["cifar10"].compute
    found = training.contestants(compute, on_gpu=True, tiny=False)
    stock = [spec for spec in found.values() if spec["loop"] == "stock"]
    for bf16 in (False, True):
        for compiled in (False, True):
            assert any(
                (spec.get("bf16", False), spec.get("compiled", False)) == (bf16, compiled) for spec in stock
            )
    assert found["ours"]["compute"] == {key: getattr(compute, key) for key in training.AS_IT_COMES}
    specs = [json.dumps(spec, sort_keys=True) for name, spec in found.items() if name != "ours"]
    assert len(set(specs)) == len(specs)
    on_cpu = training.contestants(compute, on_gpu=False, tiny=False)
    assert not any(spec.get("compiled") for spec in on_cpu.values())
