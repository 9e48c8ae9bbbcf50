"""Malformed settings, claims, archives and records: one line that names the file, exit code 2, nothing half made.

Some two hundred cases, the same in each run; benchmarks/fuzz.py tries more, and how many it tried is committed.
"""

import json
import random
import re
import sys

import fuzzed_archives
import pytest
from conftest import REPOSITORY
from fuzz_campaign import Campaign

from mlegfn import cli, graph
from mlegfn.config import load
from mlegfn.errors import UserError
from mlegfn.pipeline import engine, lockfile
from mlegfn.validation import SAID
from mlegfn.yaml_file import VALUES, read_yaml


@pytest.fixture(scope="module")
def campaign(snakemade, tmp_path_factory):
    """A checkout of its own to break."""
    return Campaign(snakemade.duplicate(tmp_path_factory.mktemp("fuzz") / "checkout").root)


@pytest.mark.parametrize(
    "kind, count",
    [("params_text", 30), ("claims_text", 20), ("archives", 60), ("records", 8), ("command_line", 2)],
)
def test_whatever_is_damaged_is_one_clear_error(campaign, kind, count):
    rng = random.Random(f"tests {kind}")
    found = [getattr(campaign, kind)(rng) for _ in range(count)]
    assert [(faults, case[:2000]) for case, faults in found if faults] == []


def test_a_metric_that_is_no_number_is_one_clear_error(campaign):
    """To numpy null is NaN, which goes through every mean and interval; no verdict may hold it."""
    (path,) = (path for path in campaign.metrics if path.match("nll/baseline-12.json"))
    value = json.loads(path.read_bytes())
    value["points"][0]["per_image"][8] = None
    case = json.dumps(value).encode()
    assert campaign._try(path, case, campaign._verdict, "results/smoke/metrics") == []


def test_settings_of_every_type(campaign):
    found = campaign.by_schema("params.yaml", 20, 1)
    assert len(found) == 20 and [each for each in found if each[1]] == []


def test_files_that_are_odd_as_a_whole(campaign):
    """Every second; the campaign tries all."""
    found = list(campaign.odd_files(every=2))
    assert len(found) > 25 and [each for each in found if each[1]] == []


def test_the_campaign_puts_everything_back(campaign):
    """And its undamaged files are accepted, so that a refusal says something about the damage."""
    for name in ("params.yaml", "claims.yaml"):
        assert campaign._text(name, campaign.files[name]) == []
    assert campaign.codes[0] >= 2
    for name, content in campaign.files.items():
        assert (campaign.root / name).read_bytes() == content


def test_the_campaign_sees_what_is_wrong(campaign, monkeypatch):
    """A traceback, a line without the file's name, half an artifact and wrong images are failures."""

    def bug(*_):
        raise KeyError("levels")

    text = b"scales: 3"
    with monkeypatch.context() as patch:
        patch.setattr("mlegfn.config.read_yaml", bug)
        assert "traceback" in str(campaign._text("params.yaml", text))
    with monkeypatch.context() as patch:
        patch.setattr("mlegfn.cli.complain", lambda error: print("sorry", file=sys.stderr) or 2)
        assert "names no file" in str(campaign._text("params.yaml", text))

    def half(path):
        (campaign.root / "data" / "fuzzed").mkdir(parents=True)
        (campaign.root / "data" / "fuzzed" / "images.safetensors").write_bytes(b"")
        raise UserError(f"{path}: bad")

    with monkeypatch.context() as patch:
        patch.setattr("mlegfn.data.archive.load", half)
        (faults,) = [f for f in [campaign.archives(random.Random(0))[1]] if f]
        assert any("data/fuzzed holds" in fault for fault in faults)
    monkeypatch.setattr(fuzzed_archives, "is_right", lambda images: False)
    monkeypatch.setattr(fuzzed_archives, "case", lambda rng: ("x.tar", _sound_tar(), True))
    assert "not those that were packed" in str(campaign.archives(random.Random(0))[1])


def _sound_tar():
    return fuzzed_archives.packed("tar", [(n, c, b"0") for n, c in fuzzed_archives.sound().items()])


@pytest.mark.parametrize("kind", fuzzed_archives.KINDS)
def test_undamaged_archives_are_read_right(tmp_path, kind):
    from mlegfn.data import archive

    content = fuzzed_archives.packed(kind, [(n, c, b"0") for n, c in fuzzed_archives.sound().items()])
    (tmp_path / "x").write_bytes(content)
    assert fuzzed_archives.is_right(archive.load(tmp_path / "x"))


# ---------------------------------------------------------------- what the campaign found, smallest case each


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The settings with smoke alone, in a folder of their own."""
    from conftest import keep_scales

    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    keep_scales(tmp_path / "params.yaml", ["smoke"])
    monkeypatch.chdir(tmp_path)
    graph.write()
    return tmp_path


def brought(path):
    """Let the scale smoke take its images from ``path``, as YAML has it."""
    with open("params.yaml") as file:
        text = file.read()
    changed = re.sub(r"source: digits(\n +)path: null", lambda m: f"source: archive{m[1]}path: {path}", text)
    assert changed != text
    with open("params.yaml", "w") as file:
        file.write(changed)


@pytest.mark.parametrize("path", ['"a\\nb"', '"a\\0b"', '"\\ud800"', "x" * 1001, '" "', '"\\u202e"'])
def test_paths_of_one_line(here, path):
    brought(path)
    with pytest.raises(
        UserError, match=r"params.yaml: scales.smoke.data.path: (must be a path|expected text)"
    ):
        load()


@pytest.mark.parametrize(
    "path", [".", "..", "/", "data/smoke", "data/smoke/x.zip", "results", "src/../results/x"]
)
def test_what_a_user_brings_lies_outside_of_what_is_made(here, path):
    """It made a stage that follows itself: a RecursionError, or one of DVC's many."""
    brought(path)
    with pytest.raises(UserError, match=r"scales.smoke.data.path: .* overlaps with"):
        graph.write()
    brought_back = graph.derive  # a sound one is accepted
    text = (here / "params.yaml").read_text().replace(f"path: {path}\n", "path: data/birds.zip\n")
    (here / "params.yaml").write_text(text)
    assert brought_back(load())["fetch"]["smoke"]["input"] == "data/birds.zip"


@pytest.mark.parametrize(
    "path, said", [("~nobody-here/x.zip", "has that home"), ("x" * 300, "File name too long")]
)
def test_paths_that_lead_nowhere(here, path, said, capsys):
    brought(path)
    graph.write()
    assert cli.main(["stage", "fetch", "--scale", "smoke"]) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1 and not (here / "data").exists()


def test_stages_can_be_counted(here):
    text = (here / "params.yaml").read_text()
    many = "".join(f"      - {seed}\n" for seed in range(100, 5000))
    (here / "params.yaml").write_text(
        re.sub(r"(    finetune:\n(.*\n)*?      seeds:\n)", rf"\1{many}", text, count=1)
    )
    with pytest.raises(UserError, match=r"finetune.seeds: asks for 19608 fine-tunings"):
        load()


def test_aliases_count_as_what_they_stand_for(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(f"a: &a [{', '.join(['1'] * 999)}]\nb: [{', '.join(['*a'] * 98)}]\n")
    assert len(read_yaml(file)["b"]) == 98
    file.write_text(f"a: &a [{', '.join(['1'] * 999)}]\nb: [{', '.join(['*a'] * 100)}]\n")
    with pytest.raises(UserError, match=f"more than {VALUES} values"):
        read_yaml(file)


def test_thousands_of_mistakes_are_counted(here):
    (here / "params.yaml").write_text("scales:\n" + "".join(f"  s{i}: 1\n" for i in range(5000)))
    with pytest.raises(UserError) as error:
        load()
    lines = str(error.value).split("\n")
    assert len(lines) == SAID + 1 and f"{5000 - SAID} more mistakes" in lines[-1]


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"graph": 3}', '{"graph": {"fetch": {"smoke": 3}}}', "\0", "9" * 5000]
)
def test_a_graph_of_nothing(here, text):
    (here / "graph.json").write_text(text)
    with pytest.raises(UserError, match=r"graph\.json: "):
        engine.load_graph()


@pytest.mark.parametrize("text", ["a: 1", "stages: 3", "stages: {fetch: {do: {cmd: 1}}}"])
def test_a_dvc_yaml_of_nothing(here, text):
    (here / "dvc.yaml").write_text(text)
    with pytest.raises(UserError, match=r"dvc.yaml: stages.fetch: broken"):
        engine.read("smoke")


def test_a_stage_that_follows_itself(here):
    text = (
        (here / "dvc.yaml")
        .read_text()
        .replace("- ${item.input}", "- results/${item.scale}/report/verdict.json", 1)
    )
    (here / "dvc.yaml").write_text(text)
    with pytest.raises(UserError, match="depends on what it makes itself"):
        engine.read("smoke").order()


def test_an_entry_of_dvc_lock(tmp_path):
    entries = lockfile.Entries(
        {
            "a": "  a:\n    cmd: x\n    deps:\n    - path: y\n      md6: z\n",
            "twice": "  twice:\n    cmd: x\n    deps:\n    - path: y\n      md5: z\n      md5: w\n",
        }
    )
    for name in entries:
        with pytest.raises(UserError, match=rf"dvc.lock: the entry {name} is broken"):
            entries[name]
    assert entries.get("b") is None


def test_the_committed_campaign_had_no_failure():
    found = json.loads((REPOSITORY / "benchmarks/results/fuzz.json").read_text())
    assert sum(kind["cases"] for kind in found["kinds"].values()) >= 10_000 and found["dirty"] is False
    assert all(kind["failures"] == 0 and kind["refused"] > 0 for kind in found["kinds"].values())
