"""What ``help()`` and the API page say: examples in docstrings run, and public functions tell what one has to know."""

import doctest
import importlib
import inspect
import subprocess
import sys

import pytest
from helpers.repository import REPOSITORY

SOURCES = REPOSITORY / "src"
MODULES = sorted(
    ".".join(file.relative_to(SOURCES).with_suffix("").parts)
    for file in (SOURCES / "mlegfn").rglob("*.py")
    if ">>> " in file.read_text()
)
OBJECTIVES = sorted(
    f"mlegfn.objectives.{file.stem}" for file in (SOURCES / "mlegfn/objectives").glob("[a-z]*.py")
)
# Beside the objectives: the modules that a user's own model goes through.
WITH_EXAMPLES = {
    *("mlegfn.mle_gfn", "mlegfn.trajectory", "mlegfn.randomness"),
    *("mlegfn.diffusion.process", "mlegfn.diffusion.likelihood", "mlegfn.diffusion.schedules"),
}


def public(name):
    """The functions that a module of the objectives offers users; its checks are the library's own."""
    module = importlib.import_module(name)
    return [getattr(module, key) for key in module.__all__ if inspect.isfunction(getattr(module, key))]


FUNCTIONS = [function for name in OBJECTIVES if not name.endswith(".checks") for function in public(name)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted and not done.failed


def test_the_objectives_and_what_a_model_needs_have_examples():
    assert len(FUNCTIONS) >= 20
    assert set(MODULES) >= WITH_EXAMPLES
    for function in FUNCTIONS:
        assert ">>> " in function.__doc__, function.__name__


def test_an_example_that_is_wrong_would_be_seen(capsys):
    wrong = type(doctest)("wrong")
    wrong.__doc__ = ">>> 1 + 1\n3\n"
    assert doctest.testmod(wrong).failed == 1


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_help_tells_shapes_units_arguments_errors_and_the_source(function):
    text = function.__doc__
    assert any(shape in text for shape in ("[N", "[B", "[]", "same shape")), "shapes"
    assert any(unit in text for unit in ("nats", "no unit", "unit")), "units"
    assert "ValueError" in text, "errors"
    module = inspect.getmodule(function).__doc__
    assert any(source in text + module for source in ("arXiv", "docs/", "Huber 1964")), (
        "the equation's source"
    )
    if function.__module__.endswith("divergence_values"):
        return  # their arguments are alike, and stand in the first line
    if ":param" in text:
        for argument in inspect.signature(function).parameters:
            assert f":param {argument}:" in text, argument


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "tsallis", "renyi"])
def test_the_divergences_tell_their_contract(name):
    text = " ".join(getattr(importlib.import_module("mlegfn.objectives.divergences"), name).__doc__.split())
    for part in (
        "on-policy",
        "*surrogate*",
        "``.backward()``",
        "log Z is never needed",
        f"{name}_value",
        "§3",
    ):
        assert part in text, part


def test_the_api_page_is_made_of_them(tmp_path):
    """As `make docs` does; pdoc is in the extra ``docs``."""
    pytest.importorskip("pdoc")
    command = [
        sys.executable,
        "-m",
        "pdoc",
        "--docformat",
        "restructuredtext",
        "--output-directory",
        tmp_path,
    ]
    done = subprocess.run(
        [*command, "mlegfn.objectives", "mlegfn.mle_gfn"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Warn" not in done.stderr, done.stderr
    page = (tmp_path / "mlegfn/objectives/divergences.html").read_text()
    assert "on-policy" in page and "<strong>log_reward</strong>" in page
    assert "LossSettings" in (tmp_path / "mlegfn/mle_gfn.html").read_text()
