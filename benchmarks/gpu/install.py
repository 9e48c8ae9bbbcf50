"""Unpack, of the wheels in a folder, what mlegfn needs and this Python lacks or has too old.

    python3 benchmarks/gpu/install.py WHEELS SITE

SITE goes in front of PYTHONPATH. Needs neither pip nor a network: a wheel is a zip file of what is to lie in
site-packages. What the image has already stays: its transformers, say, were tested with its huggingface_hub.
"""

import sys
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# What src/mlegfn imports; each brings its own requirements.
ROOTS = (
    "diffusers",
    "safetensors>=0.8",
    "pydantic>=2.10",
    "ruamel.yaml>=0.18",
    "tabulate",
    "tqdm",
    "filelock",
    "pillow",
)


def metadata(wheel):
    """The METADATA of a wheel: an email.message.Message."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def fits_this_python(wheel):
    """Whether the wheel's tag names this Python: py3, abi3, or its very version."""
    python, abi, _ = wheel.stem.split("-")[-3:]
    return python.startswith("py") or abi == "abi3" or abi == f"cp{sys.version_info[0]}{sys.version_info[1]}"


def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def wanted(wheels, installed=installed):
    """The wheels to unpack, and one line for each requirement that neither they nor the image meet.

    wheels: {canonical name: (path, metadata)}. A package that the image has in a version that will do is
    taken with all that it needs.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    chosen, lacking, queue, seen = {}, [], [Requirement(text) for text in ROOTS], set()
    while queue:
        need = queue.pop()
        name = canonicalize_name(need.name)
        if str(need) in seen or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        seen.add(str(need))
        there = installed(need.name)
        if name in chosen or (there and need.specifier.contains(there, prereleases=True)):
            continue
        if name not in wheels:
            lacking.append(f"{need}: the image has {there}, and no wheel was carried")
            continue
        path, about = wheels[name]
        if not fits_this_python(path):
            lacking.append(f"{path.name} is not for Python {sys.version_info[0]}.{sys.version_info[1]}")
            continue
        chosen[name] = path
        queue += [Requirement(text) for text in about.get_all("Requires-Dist", [])]
    return list(chosen.values()), lacking


def main(folder, site):
    try:
        from packaging.utils import canonicalize_name
    except ImportError:  # the one thing that has to be there to find out what is not
        for wheel in Path(folder).glob("packaging-*.whl"):
            sys.path.insert(0, str(wheel))  # Python imports from a wheel as it lies
        from packaging.utils import canonicalize_name

    found = ((wheel, metadata(wheel)) for wheel in sorted(Path(folder).glob("*.whl")))
    wheels = {canonicalize_name(about["Name"]): (wheel, about) for wheel, about in found}
    chosen, lacking = wanted(wheels)
    for wheel in chosen:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        print(f"unpacked {wheel.name}")
    for line in lacking:
        print(f"install: {line}; see benchmarks/gpu_wheels.sh", file=sys.stderr)
    return 2 if lacking else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
