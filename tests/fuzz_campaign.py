"""Trials of every kind of broken input, in a checkout in which the scale smoke has run.

``Campaign(root).KIND(rng)`` damages something, lets mlegfn meet it, puts it back, and returns ``(case, faults)``:
what was tried, and what was wrong with how it went, [] if nothing.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fuzzed_archives
import fuzzed_settings
import fuzzing
from hypothesis import HealthCheck, Phase, given, seed, settings

from mlegfn import cli, config
from mlegfn.data import load_images
from mlegfn.pipeline import stage
from mlegfn.yaml_file import read_yaml

FILES = ("params.yaml", "claims.yaml", "graph.json", "dvc.yaml", "dvc.lock")


class Campaign:
    """``root`` is a checkout to break; only its own files are written, and put back after each trial."""

    def __init__(self, root):
        self.root, self.codes = Path(root), Counter()
        with self._there():
            self.files = {name: (self.root / name).read_bytes() for name in FILES}
            self.raw = {name: read_yaml(name) for name in FILES[:2]}
            self.scale = config.load().scale("smoke")
        self.metrics = sorted(self.root.glob("results/smoke/metrics/**/*.json"))

    @contextlib.contextmanager
    def _there(self):
        before = os.getcwd()
        os.chdir(self.root)
        try:
            yield
        finally:
            os.chdir(before)

    def _try(self, path, content, function, *names):
        """The faults of ``function`` while the file ``path`` has ``content`` (None: is gone, a Path: is a folder)."""
        path = self.root / path
        kept, status = path.read_bytes(), path.stat()
        path.unlink()
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            path.mkdir()
        try:
            with self._there():
                outcome = fuzzing.trial(self.root, function)
        finally:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            path.write_bytes(kept)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        self.codes[outcome.code] += 1
        return fuzzing.faults(outcome, *(names or (path.name,)))

    def _mlegfn(self, *arguments):
        return lambda: cli.run_here(list(arguments))

    def _verdict(self):
        return stage.attempt("verdict", "smoke", self.scale, {})

    def _text(self, name, content):
        if name == "claims.yaml":
            return self._try(name, content, self._verdict)
        # Settings that are sound but others make another graph.json necessary, and mlegfn says so.
        return self._try(name, content, self._mlegfn("graph", "--check"), "params.yaml", "graph.json")

    def params_text(self, rng):
        case = fuzzing.damaged(rng, self.files["params.yaml"])
        return case, self._text("params.yaml", case)

    def claims_text(self, rng):
        case = fuzzing.damaged(rng, self.files["claims.yaml"])
        return case, self._text("claims.yaml", case)

    def by_schema(self, name, count, number):
        """Yield the (case, faults) of ``count`` settings or claims that hypothesis makes; ``number``: its seed."""
        model, found = (config.Params if name == "params.yaml" else object), []

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(fuzzed_settings.broken(model, self.raw[name]))
        def collect(value):
            case = fuzzing.flow(value).encode("utf-8", "surrogatepass")
            found.append((case, self._text(name, case)))

        collect()
        return found

    def odd_files(self, every=1):
        """Yield the (case, faults) of whole files that are bombs, of files that are gone, of folders in their place;
        ``every``: of each how-many-th."""
        odd = [
            (name, self._text, what, content)
            for name, key in (("params.yaml", "scales"), ("claims.yaml", "figure1-cifar10"))
            for what, content in {**fuzzing.bombs(key), "gone": None, "a folder": self.root}.items()
        ]
        odd += [
            (name, self._record, f"{content!r:.40}", content)
            for name in FILES[2:]
            for content in (
                None,
                self.root,
                b"",
                b"{}",
                b"[]",
                b"3",
                b"\xff\xfe",
                b"{" * 2000,
                b'{"graph": {"a": 1}}',
            )
        ]
        for name, attempt, what, content in odd[::every]:
            yield f"{name}: {what}", attempt(name, content)

    def _record(self, name, content):
        if name == "graph.json":
            return self._try(
                name, content, self._mlegfn("retry-allowed", "fetch@smoke"), "graph.json", "results/smoke"
            )
        if name == "dvc.yaml":
            return self._try(name, content, self._mlegfn("plan", "--scale", "smoke"))
        return self._try(name, content, self._mlegfn("status", "--scale", "smoke"), "dvc.lock", "DVC: ")

    def records(self, rng):
        """graph.json, dvc.yaml, dvc.lock or a metric, damaged, in the command that reads it."""
        name = rng.choice((*FILES[2:], "metrics", "metrics"))
        if name != "metrics":
            case = fuzzing.damaged(rng, self.files[name])
            return case, self._record(name, case)
        path = rng.choice([path for path in self.metrics if {"nll", "finetune", "planar"} & set(path.parts)])
        case = fuzzing.damaged(rng, path.read_bytes())
        return case, self._try(path, case, self._verdict, "results/smoke/metrics", "params.yaml")

    def archives(self, rng):
        """An archive that is damaged or odd, through the stage fetch: the right images, or exit code 2."""
        name, content, known = fuzzed_archives.case(rng)
        file = self.root / name
        limits = {"train_limit": None, "test_limit": None, "source": "archive", "path": name}
        scale = self.scale.model_copy(update={"data": self.scale.data.model_copy(update=limits)})
        file.write_bytes(content)
        try:
            with self._there():
                outcome = fuzzing.trial(self.root, lambda: stage.attempt("fetch", "fuzzed", scale, {}))
                self.codes[outcome.code] += 1
                faults = fuzzing.faults(outcome, name)
                made = sorted(each.name for each in (self.root / "data").glob("fuzzed/*"))
                if outcome.code == 0:
                    if made != ["dataset.json", "images.safetensors"]:
                        faults.append(f"data/fuzzed holds {made}")
                    elif known and not fuzzed_archives.is_right(load_images("data/fuzzed")):
                        faults.append("accepted, but the images are not those that were packed")
                elif made:
                    faults.append(f"refused, but data/fuzzed holds {made}")
        finally:
            file.unlink()
            shutil.rmtree(self.root / "data" / "fuzzed", ignore_errors=True)
        return content, faults

    def command_line(self, rng):
        """Damaged settings, or claims, through the real command in a process of its own."""
        name, command = rng.choice(
            (
                ("params.yaml", ["graph", "--check"]),
                ("params.yaml", ["plan", "--scale", "smoke"]),
                ("params.yaml", ["reproduce", "--scale", "smokes"]),
                ("claims.yaml", ["stage", "verdict", "--scale", "smoke"]),
            )
        )
        case = fuzzing.damaged(rng, self.files[name])

        def run():
            done = subprocess.run(
                [sys.executable, "-m", "mlegfn", *command], capture_output=True, errors="replace"
            )
            sys.stderr.write(done.stderr)
            return done.returncode

        return case, self._try(name, case, run, name, "graph.json")
