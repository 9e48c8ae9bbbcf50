"""Reading YAML with libyaml's events: the values, and where the errors are, that ruamel.yaml alone gives."""

import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mlegfn import libyaml

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = ("params.yaml", "dvc.yaml", "claims.yaml", "claims-gallery.yaml")
# A few lines with every kind of thing that our files hold.
LINES = """\
  images: &images-a  # a ↦ b
    scales: [a, 'b: c', "d\\n", 1e-4, -.5, 0o17, 1_000, null, no, ~]
    <<: *images-a
    block: {seed: 0, cosine: {beta: 1.0}, empty: }
    said: log p(x) & more, a 3 is a text
      of two lines
- {<<: [*images-a, *images-a]}
- "x"
""".splitlines(keepends=True)
EDITS = st.sampled_from(
    [
        *":-?,[]{}#&*!|>'\"%@` \n\t\\~=.09eE+_axé\x85\u2028\r\0",
        ": ",
        "- ",
        "\n  ",
        "<<: *a",
        "&a ",
        "*a",
        " #",
        "|\n",
        "---\n",
    ]
)


def read(yaml, text):
    """What becomes of a text: the value, so that 1, 1.0 and True differ, or the error and where it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return repr(yaml.load(text))
        except Exception as error:
            return type(error).__name__


def alone(text):
    return read(YAML(typ="safe", pure=True), text)


@pytest.mark.parametrize("name", FILES)
def test_our_files_are_read_by_libyaml_and_equal(name):
    text = (REPOSITORY / name).read_text()
    yaml = libyaml.reader(text)
    assert isinstance(yaml.parser, libyaml.Replay)
    assert read(libyaml.reader(text), text) == alone(text)


@settings(max_examples=400, deadline=None)
@given(
    lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=4),
    edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 2), EDITS), max_size=4),
)
def test_edited_texts_are_read_equally(lines, edits):
    text = "".join(lines)
    for place, gone, new in edits:
        place %= len(text) + 1
        text = text[:place] + new + text[place + gone :]
    assert read(libyaml.reader(text), text) == alone(text)


# Each is read differently by libyaml, and would be by us without the part of ODD that is for it.
@pytest.mark.parametrize(
    "text",
    [
        "a: b\tc",
        "a: b\x85c: d",
        "a: b\n...\n...\n",
        "%YAML 1.1\n---\na: no",
        "&a: [1]",
        "a: &a:b",
        '["a":, b]',
        " |\n#  E",
        "  ># a\n  b",
    ],
)
def test_what_libyaml_reads_differently(text):
    assert read(libyaml.reader(text), text) == alone(text)


def test_what_is_nested_too_deeply_is_refused_at_once():
    """With the error that ruamel.yaml ends with, and no shallower text is."""
    for opening, closing in ("[]", "{}", ("[\n", "\n]")):
        deep = opening * 1000
        assert alone(deep) == "RecursionError"
        with pytest.raises(RecursionError, match="blocks within blocks"):
            libyaml.reader(deep)
        shallow = opening * libyaml.DEEPEST + closing * libyaml.DEEPEST
        assert read(libyaml.reader(shallow), shallow) == alone(shallow) != "RecursionError"
