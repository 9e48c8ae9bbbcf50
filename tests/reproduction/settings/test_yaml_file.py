"""YAML files: read as DVC reads them, and what is none is refused in one line."""

import re
import warnings

import pytest
from helpers.broken_settings import bombs
from helpers.repository import REPOSITORY
from ruamel.yaml import YAML

from mlegfn.errors import UserError
from reproduction.settings.yaml_file import origins, read_yaml


@pytest.mark.parametrize(
    "text, line",
    [
        ("scales: [", "line 1: not valid YAML"),
        ("a: 1\nscales:\n\tdigits: 3", "line 3: not valid YAML"),
        ("scales: {}\nscales: {}", "line 2: 'scales' stands twice in one block"),
        ("scales: {}\n---\nscales: {}", "line 2: not valid YAML"),
        ("x: !!python/object/apply:os.system [ls]", "line 1: not valid YAML"),
        ("x: " + "9" * 5000, "not valid YAML (Exceeds the limit"),
        ("[\n" * 2000, "nested too deeply"),
        (b"\xff\xfe\x00\x01", "not a text file"),
        (b"scales: \x00", "not valid YAML"),
    ],
)
def test_files_that_are_no_yaml(tmp_path, text, line):
    file = tmp_path / "a.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=re.escape(f"{file}: {line}")) as error:
        read_yaml(file)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400 + len(str(file))


def test_files_that_cannot_be_read(tmp_path):
    for path, said in ((tmp_path / "none.yaml", "not found"), (tmp_path, "cannot be read")):
        with pytest.raises(UserError, match=said):
            read_yaml(path)


@pytest.mark.parametrize("name", ["billion laughs", "billion merges", "quadratic aliases", "python", "large"])
def test_small_files_that_stand_for_much_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_bytes(bombs("images")[name])
    with pytest.raises(UserError, match=r"^a\.yaml: .*(not valid YAML|larger than)"):
        read_yaml("a.yaml")
    assert not (tmp_path / "canary").exists()


def test_yaml_is_that_of_dvc(tmp_path):
    """The two versions of YAML differ in these; DVC reads version 1.2."""
    file = tmp_path / "a.yaml"
    file.write_text("a: 1e-4\nb: on\nc: 017\nd: 1:30\ne: 0o17\nf: &x {g: no, h: ~}\ni: {<<: *x, h: 1_000}\n")
    found = read_yaml(file)
    assert found["a"] == 1e-4 and found["b"] == "on" and found["c"] == 17 and found["e"] == 15
    assert found == YAML(typ="safe", pure=True).load(file.read_text())


def test_every_anchor_stands_for_one_thing():
    """A second anchor of the same name is legal YAML, and DVC prints a warning of several lines for it on each run."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("params.yaml", "dvc.yaml", "params/gallery.yaml"):
            YAML().load((REPOSITORY / name).read_text())


def test_what_is_written_once_has_one_origin(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x\n")
    place = origins(file)
    assert place(["a", "b"]) == place(["d", "b"]) == place(["e", "b"])
    assert place(["a", "c"]) == place(["e", "c"]) != place(["d", "c"])


def test_an_anchor_that_stands_twice_is_refused_with_both_lines(tmp_path):
    """As in a block that was copied below itself: the aliases would silently mean the second one."""
    path = tmp_path / "params.yaml"
    path.write_text("a: &rates {lr: 1}\nb: {<<: *rates}\nc: &rates {lr: 2}\nd: *rates\n")
    with pytest.raises(UserError, match=r"params\.yaml: line 3: the anchor &rates is that of line 1, too"):
        read_yaml(path)
    path.write_text("a: &rates {lr: 1}\nb: {<<: *rates}\nc: &others {lr: 2}\nd: *others\n")
    assert read_yaml(path)["d"] == {"lr": 2}
