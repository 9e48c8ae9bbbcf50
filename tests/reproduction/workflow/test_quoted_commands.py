"""Commands of mlegfn, DVC, Snakemake and make that documents, comments and messages quote: each can be called like that."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from helpers.repository import REPOSITORY

from reproduction import arguments
from reproduction.settings.yaml_file import read_yaml

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "data/README.md",
    *(f"docs/{p.name}" for p in REPOSITORY.glob("docs/*.md")),
]
SOURCES = ["Snakefile", "Makefile", "dvc.yaml", "params.yaml", "params/*.yaml", "profiles/*/*", "src/**/*.py"]
PROGRAMS = r"(?:\.venv/bin/)?((?:mlegfn|dvc|snakemake|make) [^\s`].*)"
TO_BE_FILLED = re.compile(r"[…{}<>]|: ")  # a pattern or a message, no command


@cache
def parser(program):
    """The argparse parser of a program, from the program itself."""
    if program == "mlegfn":
        return arguments.parser()
    if program == "dvc":
        from dvc.cli.parser import get_main_parser

        return get_main_parser()
    from snakemake.cli import get_argument_parser

    return get_argument_parser()


@cache
def targets():
    """The targets of the Makefile."""
    lines = re.findall(r"^([a-z][\w -]*):(?!=)", (REPOSITORY / "Makefile").read_text(), re.M)
    return {word for line in lines for word in line.split()}


@cache
def stages():
    """The names of all stages of dvc.yaml, with their scales and items."""
    lists, found = read_yaml(REPOSITORY / "params.yaml"), set()
    for name, definition in read_yaml(REPOSITORY / "dvc.yaml")["stages"].items():
        found |= {f"{name}@{item}" for item in lists[definition["foreach"][2:-1]]}
    return found


def in_boxes(text):
    """Every command in a ```sh block: continued lines joined, comments, variables and the like put aside."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        block = re.sub(r"\$\([^)]*\)", "STAGE", block.replace("\\\n", " "))
        for line in block.splitlines():
            for part in re.split(r"&&|;", re.sub(r"(^|\s)#.*", "", line)):
                if match := re.match(rf"\s*{PROGRAMS}", part):
                    yield match[1].strip()


def in_text(text):
    """Every command between backticks outside of blocks, and at the head of a comment that describes its file."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for quoted in [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^# (mlegfn [^:\n]+): ", text, re.M)]:
        if (match := re.fullmatch(PROGRAMS, quoted)) and not TO_BE_FILLED.search(quoted):
            yield match[1]


def unknown(words):
    """The first subcommand, option or target of a command line that its program lacks; None if it has all of them."""
    program, *words = words
    if program == "make":
        return next((word for word in words if "=" not in word and word not in targets()), None)
    at, options = parser(program), dict(parser(program)._option_string_actions)
    for word in words:
        subcommands = next((a.choices for a in at._actions if a.nargs == "A..."), None)
        if word.startswith("-"):
            if word.partition("=")[0] not in options:
                return word
        elif subcommands is not None:
            if word not in subcommands:
                return word
            at = subcommands[word]
            options |= at._option_string_actions
    return None


@pytest.mark.parametrize("page", PAGES)
def test_a_command_in_a_box_parses(page, capsys):
    for command in in_boxes((REPOSITORY / page).read_text()):
        words = shlex.split(command)
        assert unknown(words) is None, command
        if words[0] != "make":
            try:
                parser(words[0]).parse_args(words[1:])
            except BaseException as error:  # argparse exits, DVC raises its own
                pytest.fail(f"{page}: {command}: {error!r} {capsys.readouterr().err}")
        if page != "CONTRIBUTING.md":  # which adds stages
            named = {word for word in words if re.fullmatch(r"[a-z_]+@[\w-]+", word)}
            assert named <= stages(), f"{page}: {command}"


def test_a_command_in_running_text_and_comments_exists():
    paths = [*PAGES, *(str(p.relative_to(REPOSITORY)) for kind in SOURCES for p in REPOSITORY.glob(kind))]
    found = 0
    for path in filter(lambda path: Path(REPOSITORY / path).is_file() and not path.endswith(".pyc"), paths):
        for command in in_text((REPOSITORY / path).read_text()):
            assert unknown(command.split()) is None, f"{path}: {command}"
            found += 1
    assert found > 150


@pytest.mark.parametrize(
    "command, word",
    [
        ("mlegfn reproduce --dry", "--dry"),
        ("mlegfn restor", "restor"),
        ("mlegfn reproduce --scale smoke --dry-run", None),
        ("dvc exp runn", "runn"),
        ("dvc gc --workspaces", "--workspaces"),
        ("dvc --wait-for-lock repro --single-item STAGE", None),
        ("snakemake --core 1", "--core"),
        ("make reprodce SCALE=smoke", "reprodce"),
    ],
)
def test_what_does_not_exist_is_found(command, word):
    assert unknown(command.split()) == word
