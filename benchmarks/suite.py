"""How long README's `make test` takes in a fresh clone with an empty HOME: benchmarks/results/suite.json.

    .venv/bin/python benchmarks/suite.py

Clones this commit into a temporary folder, installs there and waits until the disk has it (not timed), runs `make test`
on an otherwise idle machine, and writes its wall time, what passed, and the seconds that each file's tests took, by
pytest's own JUnit report; also the seconds that all cores worked in that time, whoever they worked for, and those that
the host took away (Linux).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import machine

MINUTES = 9  # for all tests
MACHINERY = 25  # per cent of the tests' seconds that may go to what runs and shares stages
# Tests of the machinery: of the workflow and the settings, and those of stages, params and command line; but for the one in
# which every stage of the scale smoke runs, in one process and without an engine.
MACHINERY_TESTS = ("tests/reproduction/workflow/", "tests/reproduction/settings/", "tests/reproduction/test_")
STAGES_THEMSELVES = "test_every_stage_makes_what_dvc_yaml_names_and_nothing_is_left_to_do"
SLOWEST = 60  # tests whose time is listed
REPOSITORY = Path(__file__).resolve().parent.parent


def main():
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    started, provenance = time.perf_counter(), machine.provenance()
    with tempfile.TemporaryDirectory(prefix="mlegfn-suite-") as folder:
        root, home, report = Path(folder, "clone"), Path(folder, "home"), Path(folder, "report.xml")
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, root], check=True)
        home.mkdir()
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLEGFN_", "PYTHON", "OMP_", "VIRTUAL_ENV"))
        }
        tools = str(Path(sys.executable).parent)
        path = [each for each in environment["PATH"].split(os.pathsep) if each != tools]
        environment |= {"HOME": str(home), "PATH": os.pathsep.join(path)}
        subprocess.run(["make", "install"], cwd=root, env=environment, check=True)
        os.sync()  # else the disk still writes 7 GB of packages while the first tests read and write
        environment["PYTEST_ADDOPTS"] = f"--junit-xml={report}"
        tests, worked, stolen = time.perf_counter(), *cores()
        code = subprocess.run(["make", "test"], cwd=root, env=environment).returncode
        minutes = (time.perf_counter() - tests) / 60
        worked, stolen = (
            round(after - before) for after, before in zip(cores(), (worked, stolen), strict=True)
        )
        found = summary(ElementTree.parse(report).getroot())
    bars = {
        "minutes": (minutes, "<=", MINUTES),
        "per cent of it for the machinery": (found["machinery_per_cent"], "<=", MACHINERY),
        "failed": (found["failed"] or code, "<=", 0),
    }
    found |= {"core_seconds": worked, "stolen_seconds": stolen}
    return machine.finish("suite", provenance, started, bars, minutes=minutes, **found)


def cores():
    """(seconds that the cores have worked, seconds that the host kept from them) since this machine started."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, stolen = (each / os.sysconf("SC_CLK_TCK") for each in ticks)
    return user + nice + system + irq + softirq, stolen


def summary(report):
    """{passed, failed, skipped, files: {file: seconds of its tests}, slowest: [[test, seconds]]} of a JUnit report."""
    counts, seconds, tests = Counter(), Counter(), Counter()
    for case in report.iter("testcase"):
        kinds = {child.tag for child in case}
        counts[
            "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        ] += 1
        file = case.get("classname").replace(".", "/")
        seconds[file] += (took := float(case.get("time")))
        tests[f"{file}::{case.get('name')}"] = took
    files = {f"{name}.py": round(value, 1) for name, value in seconds.items()}
    slowest = [[test, round(took, 1)] for test, took in tests.most_common(SLOWEST)]
    return {
        **{kind: counts[kind] for kind in ("passed", "failed", "skipped")},
        "files": files,
        "machinery_per_cent": 100
        * sum(
            took
            for test, took in tests.items()
            if test.startswith(MACHINERY_TESTS) and not test.endswith(STAGES_THEMSELVES)
        )
        / sum(files.values()),
        "slowest": slowest,
    }


if __name__ == "__main__":
    sys.exit(main())
