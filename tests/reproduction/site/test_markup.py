"""Markdown of the stages becomes HTML in which nothing of a text is obeyed."""

import re

from hypothesis import given
from hypothesis import strategies as some

from reproduction.site import build, markup


@given(some.text(max_size=60))
def test_nothing_in_a_text_becomes_markup(text):
    prose, tables = markup.split(
        f"| a |\n|:--|\n| x {text} |\n\n<b>{text}</b> [link](../x.md) ![picture](y.png)\n"
    )
    shown = "".join(prose) + "".join(cell.html for table in tables for row in table.rows for cell in row)
    assert set(re.findall(r"<\s*/?\s*([a-z0-9!]+)", shown)) <= {"strong", "em", "code", "sub", "br"}
    assert "<" not in build.as_json({"text": text})


def test_tables_sort_by_what_a_reader_would_sort_by():
    _, (table,) = markup.split(
        "| task | L1 |\n|:--|--:|\n| a | −0.5 ± 0.1 |\n| | 1,200† |\n| b | 7.4e−4 |\n| c | not measured |\n| d | 3 |\n"
    )
    assert table.numeric == [False, True]
    assert [row[1].key for row in table.rows] == [-0.5, 1200.0, 7.4e-4, None, 3.0]
    assert table.rows[1][0].repeated and table.rows[1][0].html == "a"


def test_indices_are_set_low():
    assert (
        markup.text("x_t and x_{t−1}, snake_case_name")
        == "x<sub>t</sub> and x<sub>t−1</sub>, snake_case_name"
    )
