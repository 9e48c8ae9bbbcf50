"""A checkout with results, of which dvc.lock and run records know different parts, and its page.

Those of the images of digits are made up; the others are the committed ones.
"""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import synthetic_images as synthetic
from helpers.image_stages import image_settings, prepare, run_stage

from reproduction.drawing import style
from reproduction.site import build, gather

REPOSITORY = Path(__file__).resolve().parents[3]
SCALES = ("digits", "cifar10_cpu", "discrete", "divergences", "gallery")

# Of digits' images the run is recorded, of digits' families dvc.lock alone knows, of the others nothing.
RECORDED, LOCKED = "images_report@digits", "families_report@digits"
OUTPUTS = {
    RECORDED: {
        f"results/digits/images/{part}": f"{k:032x}.dir"
        for k, part in enumerate(("figures", "tables", "report"))
    },
    LOCKED: {"results/digits/families/figures": "f" * 32 + ".dir"},
}
RECORD = {
    "stage": RECORDED,
    "command": "mlegfn stage images.report digits",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": True,
    "started": "2026-11-24T12:00:00Z",
    "wall_s": 12.34,
    "peak_memory_mib": 321.0,
    "parameters": {"images.digits.pretrain.batch": 64, "images.digits.data.path": None},
    "seeds": {"images.digits.pretrain.seeds": [0, 1, 2]},
    "inputs": {"results/digits/images/metrics": "5718285b568be8529abe60717e52ef5b.dir"},
    "outputs": OUTPUTS[RECORDED],
    "device": {"kind": "cpu", "name": "<i>a processor</i>", "cores": 2, "machine": "x86_64"},
    "python": "3.11.2",
    "packages": {"torch": "2.9.0"},
    "requirements_lock": "ab" * 32,
}


def write_lock(root, outputs):
    """dvc.lock as JSON, which is YAML too: {stage: {path: MD5}}."""
    stages = {
        name: {"cmd": "mlegfn", "outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}
        for name, outs in outputs.items()
    }
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))


def write_record(root, record, experiment="images"):
    """The record of a stage's run at the scale digits."""
    folder = root / "results" / "digits" / experiment / "provenance"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{record['stage']}.json").write_text(json.dumps(record))


def link_settings(root):
    """The settings and the claims, without results."""
    for name in ("params.yaml", "params", "claims"):
        (root / name).symlink_to(REPOSITORY / name)


def write_images(root):
    """Results of the images of digits with every arm: one claim of each outcome that the page has a word for."""
    settings = image_settings("digits")
    with contextlib.chdir(prepare(root)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "FORMATS", ("svg",))
        synthetic.write(
            settings,
            "results",
            shifts={**synthetic.SHIFTS, "reweighted": synthetic.SHIFTS["simple_tbc"]},  # undecided
            gains={**synthetic.GAINS, "simple_tbc": -0.3},  # refuted
        )
        synthetic.write_samples(settings, "results")
        run_stage("images.report", settings, scale="digits", arms=synthetic.ARMS)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """The folder."""
    root = tmp_path_factory.mktemp("checkout")
    link_settings(root)
    write_images(root)
    for scale in SCALES:
        for part in REPOSITORY.glob(f"results/{scale}/*/*"):
            link = root / part.relative_to(REPOSITORY)
            if part.name != "provenance" and (scale, part.parent.name) != ("digits", "images"):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(part)
    write_lock(root, OUTPUTS)
    write_record(root, RECORD)
    return root


@pytest.fixture(scope="session")
def page(checkout):
    """``site``: what is gathered of the checkout; ``html``: its page; ``file``: where that lies."""
    with contextlib.chdir(checkout):
        site = gather.gather()
        html = build.render(site)
    file = checkout / "page.html"
    file.write_text(html, encoding="utf-8")
    return SimpleNamespace(site=site, html=html, file=file, root=checkout)
