"""Archives that are damaged or odd: the right images, or one line that names the file."""

import random

import pytest
from helpers import fuzzed_archives

from mlegfn.data import archive
from mlegfn.errors import UserError


def packed(kind):
    return fuzzed_archives.packed(kind, [(n, c, b"0") for n, c in fuzzed_archives.sound().items()])


def faults(folder, name, content, known):
    """What is wrong with how ``content`` is read; ``known``: only as the images of ``sound``, or not at all."""
    file = folder / name
    file.write_bytes(content)
    before = sorted(folder.rglob("*"))
    try:
        images = archive.load(file)
    except UserError as error:
        wrong = "\n" in str(error) or not str(error).startswith(str(file))
        found = [f"no single line that names the file: {error}"] if wrong else []
    else:
        found = ["not those that were packed"] if known and not fuzzed_archives.is_right(images) else []
    if sorted(folder.rglob("*")) != before:
        found.append("something was written")
    return found


def test_whatever_is_damaged_is_right_or_refused(tmp_path):
    rng, found = random.Random("tests archives"), []
    for _ in range(120):
        name, content, known = fuzzed_archives.case(rng)
        found += [(each, content[:2000]) for each in faults(tmp_path, name, content, known)]
    assert found == []


@pytest.mark.parametrize("kind", fuzzed_archives.KINDS)
def test_undamaged_archives_are_read_right(tmp_path, kind):
    (tmp_path / "x").write_bytes(packed(kind))
    assert fuzzed_archives.is_right(archive.load(tmp_path / "x"))


def test_wrong_images_and_half_a_sentence_would_be_seen(tmp_path, monkeypatch):
    """The negative control."""
    content = packed("tar")
    assert faults(tmp_path, "x.tar", content, True) == []
    with monkeypatch.context() as patch:
        patch.setattr(fuzzed_archives, "is_right", lambda images: False)
        assert faults(tmp_path, "x.tar", content, True) == ["not those that were packed"]

    def sorry(path):
        raise UserError("sorry")

    monkeypatch.setattr(archive, "load", sorry)
    assert "names the file" in faults(tmp_path, "x.tar", content, True)[0]
