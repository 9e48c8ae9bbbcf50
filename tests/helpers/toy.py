"""A checkout with two quick stages of its own under git and DVC, the repository's params.yaml and command line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from helpers.repository import REPOSITORY

from reproduction.hashes import md5

DVC_YAML = """\
stages:
  fetch:
    foreach: ${image_scales}
    do:
      cmd: mlegfn stage images.fetch ${item}
      deps: [src/reproduction/images/fetch.py]
      params: ["images.${item}.data"]
      outs: ["data/${item}"]
      meta: {mem_mb: 500, runtime: 60}
  pretrain:
    foreach: ${image_scales}
    do:
      cmd: mlegfn stage images.pretrain ${item}
      deps: [src/reproduction/images/pretrain.py, "data/${item}"]
      params: ["images.${item}.pretrain"]
      outs:
        - results/${item}/images/checkpoints/baseline: {persist: true}
        - results/${item}/images/metrics/pretrain: {cache: false, persist: true}
      meta: {gpu: true, mem_mb: 600, runtime: 480}
"""
FETCH = """\
from mlegfn.artifacts import write_text


def run(stage):
    write_text(stage.data / "images.txt", f"{stage.settings.data.train_limit} images")
    print("fetched")
"""
# Two checkpoints, each a part: the seed changes both, the list of checkpoints neither.
PRETRAIN = """\
from mlegfn.artifacts import write_json, write_text


def run(stage):
    images, settings = stage.input(stage.data) / "images.txt", stage.settings.pretrain
    for step in settings.checkpoints:
        weights, metric = stage.path("checkpoints/baseline", step), stage.path("metrics/pretrain", f"{step}.json")
        part = stage.part(str(step), [weights, metric], {"seeds": settings.seeds, "step": step}, [stage.data])
        if not part.finished:
            write_text(weights / "weights.txt", f"{step} steps on {images.read_text()}")
            write_json(metric, {"seeds": settings.seeds, "step": step})
            part.finish()
            print(f"trained {step}")
"""
OUTPUTS = ("data/smoke", "results/smoke/images/checkpoints/baseline", "results/smoke/images/metrics/pretrain")
OF_THIS_MACHINE = ("MLEGFN_", "SLURM_", "CUDA_VISIBLE_DEVICES")
STAGES = ["fetch@smoke", "pretrain@smoke"]


class Toy:
    """One such checkout."""

    def __init__(self, root):
        self.root = Path(root)

    @property
    def environment(self):
        """Of this process, without its GPUs and options, with this checkout's modules first."""
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("MLEGFN_", "SLURM_", "CUDA_VISIBLE"))
        }
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{self.root / 'src'}{os.pathsep}{REPOSITORY / 'src'}",
            "OMP_NUM_THREADS": "1",
            "DVC_SITE_CACHE_DIR": str(self.root / ".dvc/site"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{
                f"GIT_{who}_{what}": "test@test"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }

    def run(self, *command, check=True, **kwargs):
        """Run a command here; the CompletedProcess with its output as text, stderr among it."""
        environment = {**self.environment, **kwargs.pop("environment", {})}
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **kwargs,
        )
        if check:
            assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout[-4000:]}"
        return done

    def commit(self, message="results"):
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)

    def edit(self, path, before, after):
        """Replace text that must be there once in a file."""
        text = (self.root / path).read_text()
        assert text.count(before) == 1, f"{path}: {before!r} stands there {text.count(before)} times"
        (self.root / path).write_text(text.replace(before, after))

    def write(self, module, text):
        """Replace the source of a stage, ``fetch`` or ``pretrain``."""
        path = self.root / f"src/reproduction/images/{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def duplicate(self, destination):
        """A copy, artifacts and cache included."""
        subprocess.run(["cp", "-a", self.root, destination], check=True)
        return Toy(destination)

    def clone(self, destination):
        """What another person has: git's part alone."""
        subprocess.run(["git", "clone", "-q", self.root, destination], check=True)
        return Toy(destination)

    def contents(self):
        """{path: text} of every file of the stages' outputs."""
        files = [file for path in OUTPUTS for file in (self.root / path).rglob("*") if file.is_file()]
        return {str(file.relative_to(self.root)): file.read_text() for file in files}

    def log(self, name):
        return (self.root / f"results/smoke/logs/{name}.log").read_text()


def entry(name, outputs, **more):
    """What dvc.lock says of a stage whose outputs are as they are in the working directory."""
    return {
        name: {"cmd": f"run {name}", "outs": [{"path": path, "md5": md5(path)} for path in outputs], **more}
    }


def write_lock(stages):
    """dvc.lock in the working directory, of {stage: entry}."""
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))


def lay_out(root):
    """The files of a ``Toy`` in which nothing has run, without git and DVC."""
    toy = Toy(root)
    toy.write("fetch", FETCH)
    toy.write("pretrain", PRETRAIN)
    for name in ("params.yaml", "Snakefile", ".gitignore", ".gitattributes", ".dvcignore"):
        shutil.copy(REPOSITORY / name, toy.root)
    shutil.copytree(REPOSITORY / "params", toy.root / "params")
    (toy.root / "dvc.yaml").write_text(DVC_YAML)
    return toy


def make(root):
    """A new ``Toy`` in which nothing has run; its files are committed."""
    toy = lay_out(root)
    images = toy.root / "src/reproduction/images"
    for folder in (images, images.parent):
        source = REPOSITORY / folder.relative_to(toy.root)
        for path in source.iterdir():
            if path.name not in ("images", "fetch.py", "pretrain.py", "__pycache__"):
                (folder / path.name).symlink_to(path)
    (toy.root / ".dvc").mkdir()
    (toy.root / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    (toy.root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n/site\n")
    toy.run("git", "init", "-q", "-b", "main")
    toy.commit("a checkout")
    return toy
