"""benchmarks/gpu.sh and what it runs, as far as a CPU can try it out."""

import json
import re
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
sys.path.insert(0, str(REPOSITORY / "benchmarks" / "gpu"))

import hour
import install
import training

from mlegfn.config import load

SCRIPTS = ("benchmarks/gpu.sh", "benchmarks/gpu_wheels.sh")


@pytest.fixture
def environment(tmp_path, warm_environment):
    return {
        **{key: value for key, value in warm_environment.items() if key not in ("ARCHIVE", "MINUTES")},
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
    results = Path(environment["WORK"]) / "hour" / "results"
    assert [folder.name for folder in results.iterdir()] == ["tiny-hour"]
    assert "2-tbc-0" in printed and "bits/dim" in printed
    nll = json.loads((results / "tiny-hour/metrics/nll/2-tbc-0.json").read_text())
    assert (nll["images"], nll["network_evaluations_per_image"]) == (8, 4)
    # What the machine gives back: at most 8 files under 16 MiB.
    sizes = [file.stat().st_size for file in Path(environment["OUT"]).iterdir()]
    assert 0 < len(sizes) <= 8 and max(sizes) < 2**24

    # Called again it has nothing to do; without one artifact, that stage alone.
    schedule = hour.Schedule(results.parent, "tiny-hour")
    assert schedule.next({}) is None
    (results / "tiny-hour/metrics/nll/2-tbc-0.json").unlink()
    assert schedule.next({}) == "nll@tiny-hour-2-tbc-0"
    assert schedule.next({"nll@tiny-hour-2-tbc-0": None}) is None


def test_checkpoints_come_one_after_the_other_and_half_of_one_does_not_count(tmp_path):
    params = load(REPOSITORY / "params.yaml")
    scale = params.scale("cifar10-hour")
    hour.write(tmp_path, "cifar10-hour", scale)
    schedule = hour.Schedule(tmp_path, "cifar10-hour")

    def finish(stage):
        for out in schedule.pipeline.stages[stage].outs:
            (tmp_path / out).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / out).touch()

    order = []
    while (stage := schedule.next({})) is not None:
        order.append(stage)
        finish(stage)
    assert sorted(order) == sorted(schedule.pipeline.stages)
    steps = [step for stage in order if (step := schedule.step(stage))]
    assert steps == sorted(steps)
    for stage in order:
        assert all(order.index(before) < order.index(stage) for before in schedule.pipeline.upstream[stage])

    assert hour.finished(schedule, scale) == 9
    (tmp_path / schedule.pipeline.stages["nll@cifar10-hour-6000-vlb-0"].outs[0]).unlink()
    assert hour.finished(schedule, scale) == 2


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
    engine = load(REPOSITORY / "params.yaml").scale("cifar10").engine
    found = training.contestants(engine, on_gpu=True, tiny=False)
    stock = [spec for spec in found.values() if spec["loop"] == "stock"]
    for bf16 in (False, True):
        for compiled in (False, True):
            assert any(
                (spec.get("bf16", False), spec.get("compiled", False)) == (bf16, compiled) for spec in stock
            )
    assert found["ours"]["engine"] == {key: getattr(engine, key) for key in training.AS_IT_COMES}
    specs = [json.dumps(spec, sort_keys=True) for name, spec in found.items() if name != "ours"]
    assert len(set(specs)) == len(specs)
    on_cpu = training.contestants(engine, on_gpu=False, tiny=False)
    assert not any(spec.get("compiled") for spec in on_cpu.values())
