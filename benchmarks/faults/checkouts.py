"""Fresh clones to run in, and how the bytes that they end up with are compared."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from pathlib import Path

from faults import processes

REPOSITORY = Path(__file__).resolve().parents[2]
# What differs from run to run by its nature: what stages print, states of interrupted trainings, wall times.
UNEQUAL = ("logs", "scratch", "provenance")
RUN = ("make", "reproduce", "SCALE=smoke")


class Checkout:
    """A clone in ``folder``/checkout with a home, a temporary folder and DVC's state of its own."""

    source = REPOSITORY  # the campaign freezes HEAD

    def __init__(self, folder, venv, environment=None):
        self.folder, self.root, self.venv = Path(folder), Path(folder) / "checkout", Path(venv)
        self.mark = uuid.uuid4().hex
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLEGFN_", "DVC_", "OMP_", "GIT_"))}
        self.environment = {
            **kept,
            "PYTHONPATH": str(self.root / "src"),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "DVC_SITE_CACHE_DIR": str(self.folder / "site"),
            processes.MARK: self.mark,
            **(environment or {}),
        }
        self.runs = 0

    def clone(self):
        """Clone the source; everything is a copy of its own but .venv, which no run writes to."""
        for name in ("home", "tmp", "site"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "-q", f"file://{self.source}", self.root], check=True)
        (self.root / ".git/info").mkdir(exist_ok=True)
        (self.root / ".git/info/exclude").write_text("/.venv\n")
        (self.root / ".venv").symlink_to(self.venv)
        for name in ("requirements.lock", "pyproject.toml"):  # make must find the installation up to date
            os.utime(self.root / name, (0, 0))
        return self

    def duplicate(self, folder):
        """A copy, artifacts and cache included."""
        other = Checkout(folder, self.venv)
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("tmp", "said-*"))
        shutil.copytree(self.root / ".dvc/tmp", other.root / ".dvc/tmp", dirs_exist_ok=True)
        (other.folder / "tmp").mkdir()
        return other

    def start(self, *command, environment=None, **kwargs):
        """Start a command here; what it prints goes to the file ``said``."""
        self.runs += 1
        self.said = self.folder.with_name(f"{self.folder.name}-said-{self.runs}.txt")
        with open(self.said, "wb") as file:
            return subprocess.Popen(
                [str(part) for part in command or RUN],
                cwd=self.root,
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **kwargs,
            )

    def run(self, *command, seconds=3600, **kwargs):
        """Run a command here to its end: (exit code, what it printed, seconds). A hang is code None."""
        begin = time.monotonic()
        process = self.start(*command, **kwargs)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            processes.kill_all(self.mark)
            process.wait()
            code = None
        return code, self.said.read_text(errors="replace"), time.monotonic() - begin

    def tool(self, name):
        """The path of a program of .venv."""
        return self.root / ".venv/bin" / name

    def edit(self, path, before, after):
        """Replace a text that must be there in a file."""
        text = (self.root / path).read_text()
        if before not in text:
            raise ValueError(f"{path} has no {before!r}")
        (self.root / path).write_text(text.replace(before, after))

    def forget(self, stages):
        """Make some stages run again: no record, no outputs, and nothing in the cache that DVC could take instead."""
        for stage, entry in self.recorded().items():
            if stage in stages:
                for out, digest in re.findall(
                    r"^    - path: (.+)\n(?:      .*\n)*?      md5: (\S+)$", outs(entry), re.M
                ):
                    path = self.root / out
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                    (self.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink(missing_ok=True)
                text = (self.root / "dvc.lock").read_text()
                (self.root / "dvc.lock").write_text(text.replace(f"  {entry}", ""))
        shutil.rmtree(self.root / ".dvc/cache/runs", ignore_errors=True)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def recorded(self):
        """The stages of the scale that dvc.lock records: {name: its entry's text}."""
        text = (self.root / "dvc.lock").read_text()
        entries = re.split(r"^  (?=\S)", text, flags=re.MULTILINE)[1:]
        return {entry.split(":\n")[0]: entry for entry in entries if "@smoke" in entry.split(":\n")[0]}

    def manifest(self):
        """{path: SHA-256} of the data, of every result, of dvc.lock, and what git sees beside them."""
        found = {"dvc.lock": digest(self.root / "dvc.lock")} if (self.root / "dvc.lock").exists() else {}
        for top in (self.root / "data/smoke", self.root / "results/smoke"):
            for path in sorted(top.rglob("*")):
                name = path.relative_to(self.root)
                if path.name == ".snakemake_timestamp":  # Snakemake's, and ignored by DVC
                    continue
                if path.is_file() and not (name.parts[0] == "results" and name.parts[2] in UNEQUAL):
                    found[str(name)] = digest(path)
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=all"], cwd=self.root, capture_output=True
        ).stdout.decode()
        for line in status.splitlines():
            if not any(f"results/smoke/{kind}/" in line for kind in UNEQUAL):
                found.setdefault(f"git status: {line}", line[:2])
        return found

    def cache(self):
        """{object: SHA-256} of DVC's cache, and the objects whose name is not their content's MD5."""
        found, wrong = {}, []
        for path in sorted((self.root / ".dvc/cache/files/md5").rglob("*")):
            if path.is_file():
                name, content = path.parent.name + path.name, path.read_bytes()
                found[name] = hashlib.sha256(content).hexdigest()
                if hashlib.md5(content).hexdigest() != name.removesuffix(".dir"):
                    wrong.append(name)
        return found, wrong

    def stages_run(self):
        """How often each stage has begun, from the stages' logs."""
        logs = (self.root / "results/smoke/logs").glob("*@*.log")
        return {log.stem: log.read_text(errors="replace").count("\n=== 2") for log in logs}


def outs(entry):
    """The part of an entry of dvc.lock that lists its outputs."""
    return entry.partition("\n    outs:\n")[2]


def digest(path):
    """Hex SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begun(context, name, draw):
    """A checkout for a trial: a fresh clone, or, where ``context.part`` says so, one that lacks so many stages."""
    if not context.part:
        return Checkout(context.folder / name, context.venv).clone()
    checkout = context.finished.duplicate(context.folder / name)
    checkout.forget(draw.sample(sorted(checkout.recorded()), context.part))
    shutil.rmtree(checkout.root / "results/smoke/logs")
    return checkout


def differing(found, expected):
    """The paths in which two manifests differ."""
    return sorted(path for path in {*found, *expected} if found.get(path) != expected.get(path))


def verdict(checkout, reference):
    """What must hold of a finished checkout: {"equal", "differing", "cache"}; see ``Reference``."""
    different = differing(checkout.manifest(), reference["manifest"])
    objects, wrong = checkout.cache()
    missing = sorted(set(reference["cache"]) - set(objects))
    litter = sorted(set(objects) - set(reference["cache"]))
    return {
        "equal": not different and not wrong and not missing,
        "differing": different[:20],
        "cache": {"wrong": wrong[:5], "missing": missing[:5], "besides": litter[:5]},
    }


def describe(checkout, seconds):
    """A finished checkout as what others are compared with."""
    objects, wrong = checkout.cache()
    if wrong:
        raise ValueError(f"the reference's own cache is wrong: {wrong}")
    stages = len(checkout.stages_run())
    return {"seconds": seconds, "stages": stages, "manifest": checkout.manifest(), "cache": objects}


def save(path, value):
    Path(path).write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
