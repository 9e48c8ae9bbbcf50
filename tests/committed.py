"""What is committed, to hold documents against: results, benchmarks, settings; and the same with everything changed."""

import csv
import json
from pathlib import Path

from mlegfn.yaml_file import read_yaml


class Lines(list):
    """The lines of a text file."""


OPPOSITE = {
    "reproduced": "not reproduced",
    "not reproduced": "reproduced",
    "not tested at this scale": "reproduced",
    "lower": "higher",
    "higher": "lower",
    "indistinguishable": "lower",
}


def other_values(value):
    """Every number another one, in the opposite order; every verdict, outcome and switch the opposite."""
    if isinstance(value, Lines):
        return Lines(line.translate(str.maketrans("0123456789", "9876543210")) for line in value)
    if isinstance(value, dict):
        return {key: other_values(each) for key, each in value.items()}
    if isinstance(value, list):
        return [other_values(each) for each in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return 7 - 2 * value
    if isinstance(value, str):
        return OPPOSITE.get(value, value)
    return value


def small_values(value):
    """Every number a thousandth."""
    if isinstance(value, dict):
        return {key: small_values(each) for key, each in value.items()}
    if isinstance(value, list):
        return [small_values(each) for each in value]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value / 1000 if is_number else value


def other_lengths(value):
    """Every list longer, by its first entry once more, and every text by as many lines again."""
    if isinstance(value, Lines):
        return Lines(value + value)
    if isinstance(value, dict):
        return {key: other_lengths(each) for key, each in value.items()}
    if isinstance(value, list):
        longer = [other_lengths(each) for each in value]
        return longer + longer[:1]
    return value


class Committed:
    """Files below ``root``, from git: ``change`` is a function of a file's value, to see who notices."""

    def __init__(self, root, change=lambda value: value):
        self.root, self.change, self._read = Path(root), change, {}

    def json(self, path):
        return self._value(path, lambda file: json.loads(file.read_text()))

    def benchmark(self, name):
        return self.json(f"benchmarks/results/{name}.json")

    def metrics(self, scale, *path):
        return self.json("/".join(["results", scale, "metrics", *path]) + ".json")

    def settings(self, scale, *keys):
        """A setting of params.yaml, not validated, so that it can be changed."""
        value = self.yaml("params.yaml")["scales"][scale]
        for key in keys:
            value = value[key]
        return value

    def yaml(self, path):
        return self._value(path, read_yaml)

    def rows(self, path):
        """[{column: text}] of a CSV file, numbers as numbers."""

        def number(text):
            try:
                return float(text)
            except ValueError:
                return text

        def read(file):
            with open(file, newline="") as lines:
                return [{k: number(v) for k, v in row.items()} for row in csv.DictReader(lines)]

        return self._value(path, read)

    def lines(self, path):
        return self._value(path, lambda file: Lines(file.read_text().splitlines()))

    def claim(self, scale, name, report="verdict"):
        claims = self.json(f"results/{scale}/report/{report}.json")["claims"]
        return next(each for each in claims if each["id"] == name)

    def verdict(self, *which):
        return self.claim(*which)["verdict"]

    def outcomes(self, *which):
        """[lower | indistinguishable | higher] of a claim's parts."""
        return [part["outcome"] for part in self.claim(*which)["parts"]]

    def _value(self, path, read):
        if path not in self._read:
            self._read[path] = self.change(read(self.root / path))
        return self._read[path]
