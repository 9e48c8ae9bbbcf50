"""libyaml's parser under ruamel.yaml, whose own scanner and parser are most of the time that reading YAML takes.

What a scalar means (YAML 1.2), which key stands twice and what an alias stands for stays for ruamel.yaml to say, by
which DVC reads. Only the events come from libyaml, and only of texts in which YAML 1.1, which is what libyaml knows,
has the same ones: tests/test_libyaml.py compares.
"""

import re

from ruamel.yaml import YAML, events

# For ruamel.yaml alone:
ODD = re.compile(
    r"[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]"  # tabs, other ends of lines, what one refuses
    r"|^(?:%|\.\.\.)"  # directives, ends of documents
    r"|[\"'\]}]\s*:\S"  # a value that follows `"key":` at once
    r"|(?:^|[\s\[{,:-])(?:"
    r"[|>]"  # text in lines
    r"|[&*](?![A-Za-z0-9_-]+(?:[\s,\]}]|\Z)|(?<=\w .) ))",  # other names of anchors than plain ones; `a & b` is text
    re.MULTILINE,
)
DEEPEST = 100  # blocks within blocks; ruamel.yaml gives up at some 300, after seconds


def reader(text):
    """A ``ruamel.yaml.YAML`` to load or compose ``text`` with; what is odd or no YAML, ruamel.yaml reads alone."""
    yaml = YAML(typ="safe", pure=True)
    found = None if ODD.search(text) else _events(text)
    if found is not None:
        yaml.Parser = lambda loader: Replay(found)
    return yaml


def _events(text):
    """libyaml's events of a text, each with what ruamel.yaml's have beside; None where it is no YAML for libyaml.

    RecursionError, as of ruamel.yaml, for what is nested deeper than DEEPEST.
    """
    import yaml

    try:
        from yaml.cyaml import CParser
    except ImportError:  # PyYAML was built without libyaml
        return None
    parser, found, depth = CParser(text), [], 0
    try:
        while parser.check_event():
            event = parser.get_event()
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise RecursionError(f"more than {DEEPEST} blocks within blocks")
            if getattr(event, "tag", None) is not None:
                return None
            event.ctag = event.comment = None
            found.append(event)
    except yaml.YAMLError:
        return None
    return found


class Replay:
    """PyYAML's events in place of a ``ruamel.yaml.parser.Parser``."""

    def __init__(self, found):
        import yaml

        self._found, self._at = found, 0
        names = [name for name in dir(events) if name.endswith("Event")]
        self._kinds = {(getattr(events, name),): getattr(yaml.events, name) for name in names}

    def peek_event(self):
        return self._found[self._at]

    def check_event(self, *kinds):
        return isinstance(
            self._found[self._at], self._kinds[kinds]
        )  # the composer asks for one kind at a time

    def get_event(self):
        self._at += 1
        return self._found[self._at - 1]

    def dispose(self):
        """ruamel.yaml's parser drops its state here."""
