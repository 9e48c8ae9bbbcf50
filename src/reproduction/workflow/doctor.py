"""What a scale needs that this machine lacks, and how to get it."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlegfn.errors import UserError
from reproduction import params as settings
from reproduction.workflow import dvc, surroundings

TOOLS = ("torch", "torchvision", "diffusers", "safetensors", "dvc", "snakemake", "scikit-learn", "matplotlib")
# Rough size of a scale's artifacts and cache, GiB.
SPACE = {"cpu": 2, "gpu": 150}


def examine(scale_name):
    """Print a line for each thing looked at; returns 0 if the scale can run, else 2."""
    params = settings.load()
    params.check_scale(scale_name)
    scale = params.images.get(scale_name)  # only the image experiment needs a GPU or data
    problems = 0
    for what, check in (
        ("python", python),
        ("tools", tools),
        ("git", git),
        ("disk", lambda: disk(scale)),
        ("gpu", lambda: gpu(scale)),
        ("data", lambda: data(scale_name, scale)),
        ("fid", lambda: inception(scale_name, scale)),
        ("remote", remote),
    ):
        try:
            word, text = "ok", check()
            if isinstance(text, tuple):
                word, text = text
        except UserError as error:
            word, text = "missing", str(error)
            problems += 1
        print(f"{word:8}{what:8}{text}")
    print(f"{scale_name}: " + (f"{problems} thing(s) missing" if problems else "can run"))
    return 2 if problems else 0


def python():
    if sys.version_info < (3, 11):  # noqa: UP036, for a checkout that runs without being installed
        raise UserError(f"Python {platform.python_version()} is too old; install 3.11 or later, then `make`")
    return f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"


def tools():
    found, missing = [], []
    for name in TOOLS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        raise UserError(
            f"{', '.join(missing)}: not installed; `make install` installs what requirements.lock pins"
        )
    return ", ".join(found)


def git():
    if shutil.which("git") is None:
        raise UserError("git is not installed; your system's package manager has it")
    if not Path(".git").exists():
        raise UserError(
            "this is no git checkout; DVC and the results' history need one: clone the repository"
        )
    version = subprocess.run(["git", "--version"], capture_output=True, text=True).stdout.strip()
    if surroundings.git_state()[0] is None:
        return "note", f"{version}; {surroundings.unnamed_commit()}"
    return version


def disk(scale):
    free, needed = shutil.disk_usage(".").free / 2**30, SPACE["gpu" if on_gpu(scale) else "cpu"]
    if not os.access(".", os.W_OK):
        raise UserError("this folder cannot be written to; give this user the right to it")
    if free < needed:
        raise UserError(f"{free:.1f} GiB free here, about {needed} wanted; free some or move the checkout")
    return f"{free:.0f} GiB free, about {needed} wanted"


def gpu(scale):
    if not on_gpu(scale):
        return "not needed at this scale"
    import torch

    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    if torch.version.cuda is None:
        raise UserError(
            "torch is built without CUDA; `make install` on a Linux machine installs the one with it"
        )
    if shutil.which("nvidia-smi") is None:
        raise UserError("no NVIDIA driver found (nvidia-smi); install it, or --allow-cpu (days)")
    raise UserError(
        "nvidia-smi is there, but torch finds no GPU; see CUDA_VISIBLE_DEVICES and the driver's version"
    )


def data(scale_name, scale):
    if scale is None:
        return "not needed at this scale"
    made = Path("data", scale_name, "images.safetensors")
    if made.exists():
        return f"{made} is there"
    if scale.data.source == "archive" and not Path(scale.data.path).exists():
        raise UserError(
            f"{scale.data.path}: not found; put the images there or change images.{scale_name}.data.path"
        )
    if scale.data.source == "cifar10":
        return cifar10()
    return f"the stage fetch makes it from {scale.data.path or scale.data.source}"


def cifar10():
    mirror = os.environ.get("MLEGFN_MIRROR")
    if not mirror:
        return "note", (
            "the stage fetch downloads CIFAR-10 (170 MB); it needs the network once, or a copy of it that "
            "MLEGFN_MIRROR names"
        )
    if not Path(mirror).expanduser().exists():
        raise UserError(
            f"MLEGFN_MIRROR: {mirror}: not found; name a copy of CIFAR-10, or unset it to download"
        )
    return f"the stage fetch takes CIFAR-10 from MLEGFN_MIRROR, {mirror}"


def inception(scale_name, scale):
    if scale is None:
        return "not needed at this scale"
    path = scale.quality.inception
    if path is None:
        return "note", "not measured: quality.inception names no file of torch-fidelity's Inception weights"
    if not Path(path).is_file():
        raise UserError(
            f"{path}: not found; put torch-fidelity's Inception weights there or null at "
            f"images.{scale_name}.quality.inception"
        )
    return f"with the weights {path}; the stage quality verifies them"


def remote():
    done = subprocess.run(
        ["dvc", "config", "core.remote"], capture_output=True, text=True, env=dvc.environment()
    )
    if name := done.stdout.strip():
        return f"{name} (make restore, make record)"
    return "note", "none, so no results are shared; `dvc remote add --default NAME PATH-OR-URL` adds one"


def on_gpu(scale):
    return scale is not None and scale.machine.accelerator == "gpu"
