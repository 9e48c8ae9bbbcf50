"""The YAML that DVC writes into dvc.lock, read by libyaml.

People write settings, so those keep ruamel.yaml's values (libyaml.py), which takes several times as long; here DVC
writes, in one way, and entries are many.
"""

import functools
import re


def parse(text):
    """The value of a YAML 1.2 text by libyaml: a hundred times faster than DVC's reader, and equal on what DVC writes
    (tests/test_provenance.py compares). yaml.YAMLError for what is no YAML."""
    import yaml

    return yaml.load(text, Loader=_loader())


@functools.cache
def _loader():
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        yaml_implicit_resolvers = {}  # noqa: RUF012, of YAML 1.1: there `1e-05` is text and `no` is false

        def construct_mapping(self, node, deep=False):
            found = super().construct_mapping(node, deep)
            if len(found) != len(node.value):  # libyaml takes the last; DVC refuses the file, and so do we
                raise yaml.constructor.ConstructorError(
                    None, None, "a key stands twice in one block", node.start_mark
                )
            return found

    for tag, pattern, first in (
        ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
        ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
        ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), first)
    return Loader
