"""Which lines of src/ the tests run: `make coverage` → benchmarks/results/coverage.json.

    .venv/bin/python benchmarks/covered.py [--data .coverage] [--results FOLDER]

Reads what coverage.py has gathered from every process of a run of the tests; [tool.coverage] of pyproject.toml says
what is left out and why. Lines that need a GPU count as not run where there was none.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

BAR = 90.0  # per cent of the lines of src/
LEAST = 10  # files to print


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default=".coverage", help="coverage.py's file (default: .coverage)")
    parser.add_argument("--results", help="where to write coverage.json (default: benchmarks/results)")
    options = parser.parse_args()
    started = time.perf_counter()
    if not Path(options.data).is_file():
        print(f"covered.py: {options.data}: not found; `make coverage` makes it", file=sys.stderr)
        return 2
    found = summary(measured(options.data))
    for path, file in sorted(found["files"].items(), key=lambda item: item[1]["percent"])[:LEAST]:
        print(
            f"{file['percent']:6.1f} %  {path}  ({file['lines'] - file['run']} of {file['lines']} lines not run)"
        )
    bars = {"per cent of the lines of src/": (found["percent"], ">=", BAR)}
    return machine.finish("coverage", machine.provenance(), started, bars, options.results, **found)


def measured(data):
    """coverage.py's own JSON report of a data file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        command = [sys.executable, "-m", "coverage", "json", "--quiet", "--data-file", data, "-o", path]
        subprocess.run(command, check=True)
        return json.loads(path.read_text())


def summary(found):
    """{lines, run, excluded, percent, files: {path: the same of it}} of the files of src/ in coverage.py's report."""
    files = {
        path: counts(file["summary"]) for path, file in found["files"].items() if path.startswith("src/")
    }
    total = {key: sum(file[key] for file in files.values()) for key in ("lines", "run", "excluded")}
    return {**total, "percent": percent(total["run"], total["lines"]), "files": files}


def counts(numbers):
    lines, run = numbers["num_statements"], numbers["covered_lines"]
    return {"lines": lines, "run": run, "excluded": numbers["excluded_lines"], "percent": percent(run, lines)}


def percent(run, lines):
    return round(100 * run / lines, 2) if lines else 100.0


if __name__ == "__main__":
    sys.exit(main())
