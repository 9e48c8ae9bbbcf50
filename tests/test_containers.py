"""Dockerfile and apptainer.def, as far as they can be tested without building images.

No Docker here: what the files copy exists and suffices, what they run is the Makefile's own, and both agree.
"""

import re
import subprocess

from helpers.repository import REPOSITORY

INSTRUCTION = re.compile(r"^([A-Z]+) (.*)$", re.DOTALL)


def dockerfile():
    """[(instruction, arguments)], continued lines joined, comments dropped."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    found = [INSTRUCTION.match(line) for line in lines if line.strip()]
    assert all(found)
    return [(match[1], match[2]) for match in found]


def apptainer():
    """({header: value}, {section: [lines]})."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / "apptainer.def").read_text(), flags=re.MULTILINE)
    head, *sections = re.split(r"^%", text, flags=re.MULTILINE)
    header = dict(line.split(": ", 1) for line in head.splitlines() if line)
    return header, {
        name: [line.strip() for line in lines if line.strip()]
        for name, *lines in (section.splitlines() for section in sections)
    }


def copied():
    return [name for what, text in dockerfile() if what == "COPY" for name in text.split()[:-1]]


def test_both_recipes_are_the_same():
    header, sections = apptainer()
    docker = dockerfile()
    assert header == {"Bootstrap": "docker", "From": dict(docker)["FROM"]}
    assert re.fullmatch(r"python:3\.\d+-slim", header["From"])
    assert [line.split() for line in sections["files"]] == [
        [name, f"/opt/mlegfn/{name.removeprefix('./')}"] for name in copied()
    ]
    run = [step for what, text in docker if what == "RUN" for step in re.split(r"\s*&& ", text)]
    assert [line for line in sections["post"] if line != "cd /opt/mlegfn"] == run[: len(sections["post"]) - 1]
    assert "make install" in run
    environment = dict(pair.split("=", 1) for what, text in docker if what == "ENV" for pair in text.split())
    for line in sections["environment"]:
        name, value = line.removeprefix("export ").split("=", 1)
        assert environment[name] == value
    order = [what for what, _ in docker]
    assert order.index("USER") > max(i for i, what in enumerate(order) if what == "RUN")
    assert dict(docker)["USER"] == "mlegfn" != "root"


def test_what_is_copied_suffices(tmp_path):
    """`make --dry-run install` in a folder with the copied files alone; .dockerignore lets them through."""
    allowed = [
        line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    assert sorted(allowed) == sorted(copied())
    for name in copied():
        source = REPOSITORY / name
        assert source.exists(), name
        (tmp_path / name).symlink_to(source)
    shown = subprocess.run(
        ["make", "--dry-run", "install"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert "--require-hashes" in shown and "requirements.lock" in shown and "--editable ." in shown
    (tmp_path / "requirements.lock").unlink()
    assert subprocess.run(["make", "--dry-run", "install"], cwd=tmp_path, capture_output=True).returncode


def test_the_post_script_is_shell():
    script = "\n".join(apptainer()[1]["post"])
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    for what, text in dockerfile():
        if what == "RUN":
            subprocess.run(["sh", "-n"], input=text, text=True, check=True)
