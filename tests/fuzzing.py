"""Broken inputs by the thousand for test_fuzz.py and benchmarks/fuzz.py, and what must hold for each of them.

A case is a file of ours, or an archive of images, that was damaged; a trial runs what the command line calls on it,
in this process, and is judged by what a user sees: the exit code, stderr, the files on disk, the time.
"""

import contextlib
import io
import json
import math
import os
import re
import resource
import signal
import time
from pathlib import Path
from typing import NamedTuple

SECONDS = 30  # a case may take on a loaded machine; the slowest take about 5 on an idle one
MEMORY = 2**30  # bytes by which one case may raise the peak

NASTY = (
    *("null", "~", "true", "no", "-1", "0", "1", "2", "1e400", "-0.0", ".nan", "-.inf", "1e-400", "9" * 30),
    *("0x10", "0o17", "017", "1:30", "1_000", "2001-01-01", "2001-99-99", "''", '"\\ud800"', '"\\0"', "!!int x"),
    *("[]", "{}", "[[]]", "{a: 1}", "*nowhere", "&a *a", "&a [*a]", "<<", "=", "!!python/object:os.system [ls]"),
    *("!!binary aGVsbG8=", "!!set {a}", "!!omap [a: 1]", "? x", "|", ">", "%", "@", "`", "- - -", ": :", "\t", "#"),
)  # fmt: skip


def damaged(rng, content):
    """Bytes of a text file with one to three edits that slips of the hand, editors and disks make."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = rng.choice(EDITS)(rng, content)
    return content


def _byte(rng, content):
    if not content:
        return content
    at = rng.randrange(len(content))
    return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]


def _cut(rng, content):
    return content[: rng.randrange(len(content) + 1)]


def _without(rng, content):
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.randrange(1, 200) :]


def _insert(rng, content):
    at = rng.randrange(len(content) + 1)
    return (
        content[:at] + rng.choice((*NASTY, "\0", "\ufeff", "\x85", "\r", "\n", "  ")).encode() + content[at:]
    )


def _value(rng, content):
    """Another value behind a colon."""
    colons = [found.end() for found in re.finditer(rb": ", content)]
    if not colons:
        return content
    at = rng.choice(colons)
    end = re.compile(rb"[,}\]\n]|$").search(content, at).start()
    return content[:at] + rng.choice(NASTY).encode() + content[end:]


def _number(rng, content):
    """Another number in a number's place: often sound, or absurd but sound."""
    numbers = list(re.finditer(rb"(?<=[ \[])[0-9.]+(?=[,\]}\n])", content))
    if not numbers:
        return content
    found = rng.choice(numbers)
    new = rng.choice(
        ("1", "2", "3", "7", "64", "0.5", "1e-9", "1e9", "1000000000", "1000000", found[0].decode() + "0")
    )
    return content[: found.start()] + new.encode() + content[found.end() :]


def _lines(rng, content):
    """A line goes, comes twice, moves, or is indented otherwise."""
    lines = content.split(b"\n")
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    line = lines.pop(at)
    kind = rng.randrange(5)
    if kind:
        lines[to if kind == 1 else at : to if kind == 1 else at] = (
            [line] if kind == 1 else [line, line] if kind == 2 else [rng.choice((b" ", b"\t", b"  ")) + line]
            if kind == 3 else [line.strip()]
        )  # fmt: skip
    return b"\n".join(lines)


def _swap(rng, content):
    words = re.split(rb"([A-Za-z0-9_.]+)", content)
    if len(words) < 4:
        return content
    a, b = (2 * rng.randrange(len(words) // 2) + 1 for _ in range(2))
    words[a], words[b] = words[b], words[a]
    return b"".join(words)


def _encoded(rng, content):
    text = content.decode(errors="replace")
    return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32", "latin-1", "cp037")), "replace")


EDITS = (
    _byte,
    _byte,
    _cut,
    _without,
    _insert,
    _value,
    _value,
    _value,
    _lines,
    _lines,
    _swap,
    _swap,
    _encoded,
)
EDITS += (_number,) * 5

JUNK = (
    *(None, True, False, 0, 1, 2, -1, 0.5, -0.0, math.nan, math.inf, -math.inf, 1e300, 10**30, 10**400, 2**63),
    *("", "x", "no", "1e-4", "\0", "\n", "\ud800", "é" * 300, "${item.x}", "../x", "~nobody/x", "/dev/zero"),
    *([], [[]], [None], [1, 1], {}, {"a": 1}, [{}], {"": {}}, list(range(3000)), ["x"] * 1000),
)  # fmt: skip


def places(value, path=()):
    """Every path in nested mappings and lists."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def changed(value, path, new):
    """A copy of ``value`` with ``new`` at ``path``."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def flow(value):
    """YAML in one line; JSON but for numbers that are none."""
    if isinstance(value, dict):
        keys = {key: key if type(key) is int else flow(str(key)) for key in value}
        return "{" + ", ".join(f"{keys[key]}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: ".inf", -math.inf: "-.inf"}.get(value, ".nan")
    return json.dumps(value)


def bombs(key):
    """``{name: bytes}`` of files that are small and stand for much, or that are odd as a whole."""
    rows = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 10)]
    merges = [f"x{i}: &x{i} {{<<: [{', '.join([f'*x{i - 1}'] * 10)}]}}" for i in range(1, 10)]
    square = f"x: &x {{{', '.join(f'u{i}: 1' for i in range(3000))}}}\n{key}: {{{', '.join(f's{i}: *x' for i in range(3000))}}}"
    texts = {
        "billion laughs": "\n".join(["x0: &x0 [a, b]", *rows, f"{key}: *x9"]),
        "billion merges": "\n".join(["x0: &x0 {a: 1}", *merges, f"{key}: *x9"]),
        "quadratic aliases": square,
        "deep lists": f"{key}: {'[' * 2000}",
        "deep blocks": "\n".join(" " * i + "a:" for i in range(1500)),
        "within itself": f"{key}: &a {{b: *a}}",
        "merged into itself": f"{key}: &a {{<<: *a}}",
        "ten thousand wrong keys": f"{key}:\n" + "".join(f"  s{i}: 1\n" for i in range(10_000)),
        "a long key": f"{key}: {{{'k' * 100_000}: 1}}",
        "a long number": f"{key}: {{a: {'9' * 100_000}}}",
        "no settings at all": "",
        "two documents": f"{key}: {{}}\n---\n{key}: {{}}",
        "python": f"{key}: !!python/object/apply:os.system ['touch canary']",
        "a mapping as key": f"{key}: {{? {{a: b}} : c}}",
    }
    return {name: text.encode() for name, text in texts.items()} | {"large": b"#" * 2**26}


class Outcome(NamedTuple):
    """What a trial came to; ``error``: an exception that nobody caught."""

    code: int | None
    stderr: str
    error: str
    seconds: float
    memory: int
    touched: bool


class TooLong(BaseException):
    """Not caught by what is tried."""


def _ring(*_):
    raise TooLong


def state(root):
    """``{path: (size, mtime)}`` of every artifact, without logs."""
    found = {}
    for top in ("results", "data", "dvc.lock", "graph.json", "canary"):
        walk = os.walk(root / top) if (root / top).is_dir() else [(root, [], [top])]
        for folder, _, names in walk:
            if "logs" not in Path(folder).parts:
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        status = os.stat(os.path.join(folder, name))
                        found[os.path.join(folder, name)] = status.st_size, status.st_mtime_ns
    return found


def trial(root, function):
    """Call ``function``, which returns an exit code, in ``root``; the Outcome."""
    before, memory = state(root), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stderr, code, error, started = io.StringIO(), None, "", time.perf_counter()
    alarm = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
    try:
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
            code = function()
    except TooLong:
        error = f"more than {2 * SECONDS} s"
    except Exception as found:
        error = f"{type(found).__name__}: {found}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
    seconds = time.perf_counter() - started
    memory = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory)
    return Outcome(
        code, stderr.getvalue().replace(f"{root}/", ""), error, seconds, memory, state(root) != before
    )


def faults(outcome, *files):
    """What is wrong with an outcome, as sentences; ``files``: one of these each line of an error must name."""
    found = [f"traceback: {outcome.error}"] if outcome.error else []
    lines = [line for part in outcome.stderr.split("\n") if (line := part.split("\r")[-1]).strip()]
    if "Traceback" in outcome.stderr:
        found.append(f"traceback: {lines[-1]}")
    elif outcome.code not in (0, 2):
        found.append(f"exit code {outcome.code}")
    elif outcome.code == 2:
        if not lines:
            found.append("no error line")
        found += [
            f"a line that names no file: {line[:200]!r}"
            for line in lines
            if not any(line.removeprefix("mlegfn: ").startswith(file) for file in files)
        ]
        if outcome.touched:
            found.append("refused, but something on disk changed")
    if outcome.seconds > SECONDS:
        found.append(f"{outcome.seconds:.0f} s")
    if outcome.memory > MEMORY:
        found.append(f"{outcome.memory / 2**20:.0f} MiB")
    return found
