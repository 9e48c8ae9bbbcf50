"""Checkouts of this repository in which the scale smoke is run, as a user runs it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from helpers.repository import REPOSITORY

from reproduction.params import file_of
from reproduction.stage import recorded_outputs

COPIED = (
    "src",
    "claims",
    "dvc.yaml",
    "params.yaml",
    "params",
    "Snakefile",
    "profiles",
    "requirements.in",
    "requirements.lock",
    "README.md",
)
RUN_RECORDS = {"logs", "provenance", "scratch", "parts"}  # of one run: times, machines, commits


class Checkout:
    """A folder with the repository's sources and settings under git and DVC, and no results of other scales."""

    def __init__(self, root):
        self.root = Path(root)

    @classmethod
    def new(cls, root):
        """One in which nothing has run."""
        checkout = cls(root)
        checkout.root.mkdir(parents=True)
        for name in COPIED:
            source, target = REPOSITORY / name, checkout.root / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            elif source.exists():
                shutil.copy(source, target)
        for name in (".gitignore", ".gitattributes", ".dvcignore"):
            shutil.copy(REPOSITORY / name, checkout.root / name)
        (checkout.root / ".dvc").mkdir()
        shutil.copy(REPOSITORY / ".dvc/config", checkout.root / ".dvc/config")
        shutil.copy(REPOSITORY / ".dvc/.gitignore", checkout.root / ".dvc/.gitignore")
        checkout.git("init", "--quiet")
        checkout.git("config", "user.name", "nobody")
        checkout.git("config", "user.email", "nobody@localhost")
        checkout.commit("begin")
        return checkout

    def copy(self, root):
        """The same, results, cache and history included."""
        subprocess.run(["cp", "-a", "--reflink=auto", str(self.root), str(root)], check=True)
        return Checkout(root)

    @property
    def environment(self):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLEGFN_", "SLURM_"))}
        tools = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        return kept | {
            "PATH": tools,
            "PYTHONPATH": f"{self.root / 'src'}{os.pathsep}{REPOSITORY / 'tests'}",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "80",
        }

    def git(self, *arguments):
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout

    def commit(self, message):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)

    def start(self, *command):
        """A command in a session of its own, what it prints going to the file ``said`` beside the checkout."""
        with open(self.said, "w") as said:
            return subprocess.Popen(
                command, cwd=self.root, env=self.environment, stdout=said, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    @property
    def said(self):
        return self.root.with_name(f"{self.root.name}.said")

    def run(self, *command, code=0):
        """What a command prints; it has to end with this exit code."""
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)
        assert done.returncode == code, (
            f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done.stdout + done.stderr

    def reproduce(self, code=0):
        return self.run("mlegfn", "reproduce", "--scale", "smoke", "--cores", "2", code=code)

    def edit(self, path, old, new):
        """Replace the one place in a file that is ``old``."""
        file = self.root / path
        text = file.read_text()
        assert text.count(old) == 1, (path, old, text.count(old))
        file.write_text(text.replace(old, new))

    def set(self, key, value):
        """Change one scalar of the settings in its place: ``images.smoke.finetune.simple_tbc.weight``."""
        from ruamel.yaml import YAML

        path = Path(file_of(key, self.root / "params.yaml"))
        node = YAML().compose(path.read_text())
        for word in key.split("."):
            node = next(v for k, v in node.value if k.value == word)
        lines = path.read_text().splitlines(keepends=True)
        row, begin, end = node.start_mark.line, node.start_mark.column, node.end_mark.column
        lines[row] = lines[row][:begin] + str(value) + lines[row][end:]
        path.write_text("".join(lines))

    def planned(self):
        """{stage: why} of what `mlegfn reproduce` would run."""
        said = self.run("mlegfn", "reproduce", "--scale", "smoke", "--dry-run")
        return dict(re.findall(r"^  (\S+@\S+): (.+)$", said, re.MULTILINE))

    def outputs(self):
        """{path: content} of everything that the stages made."""
        found = {}
        for folder in (self.root / "results/smoke", self.root / "data/smoke"):
            for path in folder.rglob("*"):
                if path.is_file() and not RUN_RECORDS & set(path.relative_to(folder).parts):
                    found[str(path.relative_to(self.root))] = path.read_bytes()
        return found

    def recorded(self):
        """{path: MD5} of dvc.lock."""
        return {path: md5 for path, (_, md5) in recorded_outputs(self.root / "dvc.lock").items()}

    def log(self, stage):
        """What a stage has printed in all its runs."""
        path = self.root / "results/smoke/logs" / f"{stage}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def processes(self):
        """The numbers of the processes that work in the checkout."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if Path(os.readlink(entry)).is_relative_to(self.root):
                    found.append(int(entry.parent.name))
            except OSError:
                continue
        return found

    def kill(self):
        """kill -9 of everything that works in the checkout."""
        while running := self.processes():
            for number in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.05)
