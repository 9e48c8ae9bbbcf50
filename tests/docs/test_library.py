"""docs/library.md: each of its examples is short, and runs as it stands there."""

import re

import pytest
import torch
from helpers.exact import TinyNetwork
from helpers.repository import REPOSITORY

from mlegfn.randomness import generator, seed_layers

PAGE = (REPOSITORY / "docs/library.md").read_text()
EXAMPLES = re.findall(r"^## (.+?)\n(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def run(title, **given):
    """What the example under a heading that begins so leaves, run on ``given``."""
    (code,) = [code for heading, code in EXAMPLES if heading.startswith(title)]
    seed_layers(0, "docs")
    names = dict(given)
    exec(compile(code, f"docs/library.md: {title}", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _draws():
    """torch's global generator, from which a user's own code may draw, as it was."""
    with torch.random.fork_rng([]):
        yield


def grey(count, dtype=torch.uint8):
    return torch.randint(0, 256, (count, 1, 2, 2), generator=generator(0, "images")).to(dtype)


def test_there_are_three_of_at_most_15_lines():
    assert len(EXAMPLES) == 3
    for title, code in EXAMPLES:
        assert len(code.splitlines()) <= 15, title
        assert max(map(len, code.splitlines())) <= 110, title


def test_an_objective(capsys):
    names = run("An objective")
    assert float(capsys.readouterr().out) < 0.02
    reward = torch.arange(1.0, 7.0)
    assert (names["logits"].softmax(0) - reward / reward.sum()).abs().sum() < 0.1, "from 0.43"


def test_the_loss():
    network = TinyNetwork(dtype=torch.float32)
    before = [parameter.clone() for parameter in network.parameters()]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    names = run("MLE-GFN", network=network, optimizer=optimizer, x0=grey(16, torch.float32) / 127.5 - 1)
    assert all((a != b).any() for a, b in zip(before, network.parameters(), strict=True))
    value = names["value"]
    assert value.total.isfinite() and value.likelihood > 0 and value.consistency > 0
    lines = dict(EXAMPLES)["MLE-GFN's loss on a network of one's own"].splitlines()
    assert len([line for line in lines if "loss(" in line]) == 1, "in one call"


def test_bits_per_dimension(capsys):
    names = run("Bits/dim", network=TinyNetwork(dtype=torch.float32), images=grey(5))
    per_image = names["result"].per_image
    assert per_image.shape == (5,) and per_image.isfinite().all()
    assert str(per_image.mean().item()) in capsys.readouterr().out
    # In units of bits a dimension: white noise of 256 levels has 8, and this network was never trained.
    assert 6 < per_image.mean() < 40


def test_the_page_names_what_there_is():
    """Modules and functions in backticks can be imported; links lead to files."""
    from importlib import import_module

    for name in ("mlegfn.objectives", "mlegfn.training", "mlegfn.checkpoints"):
        assert f"`{name}`" in PAGE and import_module(name)
    assert hasattr(import_module("mlegfn.diffusion.stratified"), "stratified_bits_per_dim")
    assert hasattr(import_module("mlegfn.diffusion.variances"), "analytic_log_variance")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        assert (REPOSITORY / "docs" / link).is_file(), link
