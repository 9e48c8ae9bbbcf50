"""What differs between two contents of a metrics file or a table: number by number, under readable keys."""

import csv
import io
import json

# What tells the entries of a list apart, in this order.
NAMES = (
    *("model", "arm", "objective", "alpha", "control_variate", "batch", "seed", "finetune_step", "at"),
    *("what", "title", "id", "where", "family", "problem", "task"),
)


def values(path, content):
    """{key: value} of a JSON or CSV file's bytes; a list of numbers is one value. Another file has none."""
    found = {}
    try:
        if path.endswith(".json"):
            flatten(json.loads(content), "", found)
        elif path.endswith(".csv"):
            flatten(table(content.decode()), "", found)
    except (ValueError, csv.Error):  # not what its name says
        return {}
    return found


def table(text):
    """A CSV file as {row: {column: value}}; a row is called by as few of its cells as tell it from the others."""
    rows = list(csv.DictReader(io.StringIO(text)))
    naming = [c for c in (rows[0] if rows else ()) if not any(measured(row[c]) for row in rows)]
    named = [row[naming[0]] if naming else "" for row in rows]
    for _ in naming[1:]:
        with_each = {c: [f"{name}, {row[c]}" for name, row in zip(named, rows)] for c in naming[1:]}
        best = max(with_each, key=lambda c: len(set(with_each[c])))  # the first of the best
        if len(set(with_each[best])) > len(set(named)):
            named = with_each[best]
    found = {}
    for index, (name, row) in enumerate(zip(named, rows)):
        found[f"{name} ({index})" if name in found else name] = {c: number(v) for c, v in row.items()}
    return found


def measured(text):
    """Whether a cell holds a number with a point or an exponent: counts and seeds have none."""
    return isinstance(number(text), float)


def number(text):
    """A cell as a number, if it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except (TypeError, ValueError):
            continue
    return text


def flatten(value, key, found):
    """Put every leaf below ``value`` into ``found``, under a key of the names on the way."""
    if isinstance(value, dict):
        for name, inner in value.items():
            flatten(inner, f"{key} · {name}" if key else name, found)
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        named = [label(each) for each in value]
        if None in named or len(set(named)) < len(named):
            found[key] = value  # a log: its entries are as many as steps
            return
        for name, each in zip(named, value, strict=True):
            flatten(each, f"{key} [{name}]", found)
    else:
        found[key] = value


def label(entry):
    """What a dict in a list is called by, None if nothing tells."""
    parts = [str(entry[k]) for k in NAMES if isinstance(entry.get(k), str | int | float)]
    return ", ".join(parts) or None


def changed(path, before, after):
    """[(key, value before, value after, difference)] of what differs between two contents of a file, most first.

    The difference is a number where both are, a text that sums it up where both are lists, else None; a value that
    is not there is None.
    """
    one, other = values(path, before), values(path, after)
    rows = []
    for key in dict.fromkeys([*one, *other]):
        old, new = one.get(key), other.get(key)
        if old != new:
            rows.append((key, brief(old), brief(new), difference(old, new), weight(old, new)))
    rows.sort(key=lambda row: -row[-1])  # stable: equals stay in the file's order
    return [row[:-1] for row in rows]


def weight(old, new):
    """How much a change matters: a number's relative to its size, so that rounding comes last; all else before."""
    if not (numeric(old) and numeric(new)):
        return 3.0
    return abs(new - old) / max(abs(old), abs(new))  # at most 2


def difference(old, new):
    if numeric(old) and numeric(new):
        return new - old
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
        text = f"{len(pairs)} of {len(old)} differ"
        if all(numeric(a) and numeric(b) for a, b in pairs):
            text += f", by up to {max(abs(a - b) for a, b in pairs):.3g}"
        return text
    return None


def numeric(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def brief(value):
    """A value as it can be shown in a table."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return value
