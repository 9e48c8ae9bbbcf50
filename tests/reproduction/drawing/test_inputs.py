"""What a stage left is read, or named in one line with the stage that makes it."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlegfn.errors import UserError
from reproduction.drawing.inputs import arrays, contents


def test_contents_and_arrays_are_what_was_written(tmp_path):
    (tmp_path / "a.json").write_text('{"x": 1, "y": [2]}')
    assert contents(tmp_path / "a.json", "make@small", "x", "y") == {"x": 1, "y": [2]}
    save_file({"p": np.arange(6.0).reshape(2, 3)}, tmp_path / "a.safetensors")
    assert arrays(tmp_path / "a.safetensors", ("p",), "make@small")["p"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("text", [None, "[]", '{"x": 1}', "{"])
def test_metrics_that_do_not_fit_are_one_line(tmp_path, text):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as error:
        contents(path, "make@small", "x", "y")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"\0" * 40, "cut", "other"])
def test_arrays_that_do_not_fit_are_one_line_that_names_the_stage(tmp_path, content):
    path = tmp_path / "a.safetensors"
    save_file({"q": np.zeros(100)}, path)
    if content is None:
        path.unlink()
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif content != "other":
        path.write_bytes(content)
    with pytest.raises(UserError, match="dvc repro make@small") as error:
        arrays(path, ("p",), "make@small")
    assert str(path) in str(error.value) and "\n" not in str(error.value)
