"""Reading YAML exactly as DVC does, with one-line errors."""

import re
import warnings
from pathlib import Path

from ruamel.yaml import YAML, MappingNode, SequenceNode, YAMLError
from ruamel.yaml.composer import ReusedAnchorWarning
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor

from mlegfn.errors import UserError

# Far more than any file of settings here has (30 kB, 15,000 values), and still read in seconds.
FILE_BYTES = 2**20
VALUES = 100_000  # with every alias written out: nine lines of aliases of aliases can stand for 10^9
TOO_MANY = f"with its aliases written out it holds more than {VALUES} values"


def load(text):
    """The value of a YAML 1.2 text; ruamel.yaml's error for what is none, and for one of more than VALUES values."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = Bounded
    return yaml.load(text)


def read_yaml(path):
    """The value of a YAML 1.2 file, by the reader that DVC uses, so that both see the same settings.

    In YAML 1.2 ``1e-4`` is a number and ``no`` is text. A key that stands twice in a block is an error, and so is an
    anchor that stands twice in the file: every alias below would silently mean the second one.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES + 1)
        text = content.decode()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run from the repository's root, where it lies") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the name of a YAML file") from None
    except UnicodeDecodeError as error:
        if len(content) <= FILE_BYTES:
            raise UserError(
                f"{path}: not a text file (byte {error.start} is not UTF-8); restore it from git"
            ) from None
    if len(content) > FILE_BYTES:
        raise UserError(
            f"{path}: larger than {FILE_BYTES} bytes, so these are no settings; restore it from git"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that `1e-4` is no number in YAML 1.1 does not matter here
            warnings.simplefilter("error", ReusedAnchorWarning)
            return load(text)
    except ReusedAnchorWarning as error:
        name = re.search(r"duplicate anchor '([^']*)", str(error))[1]
        first, second = re.findall(r"line (\d+)", str(error))[:2]
        raise UserError(
            f"{path}: line {second}: the anchor &{name} is that of line {first}, too; give it a name of its own, and "
            "the aliases below that mean it"
        ) from None
    except DuplicateKeyError as error:
        key = error.problem.split('"')[1] if '"' in error.problem else "a key"
        raise UserError(
            f"{path}: line {error.problem_mark.line + 1}: {key!r} stands twice in one block; keep one"
        ) from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(
            f"{path}: {where}not valid YAML ({problem[:200]}); mend the line or restore it from git"
        ) from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply to be settings; restore it from git") from None
    except (
        ValueError,
        OverflowError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        AssertionError,
    ) as error:
        # ruamel lets the errors of int(), chr() and of its own parser through.
        raise UserError(
            f"{path}: not valid YAML ({' '.join(str(error).split())[:200]}); restore it from git"
        ) from None


class Bounded(SafeConstructor):
    """Refuses a document whose aliases stand for more values than VALUES before any of them is made."""

    def construct_document(self, node):
        if _written_out(node, {}) > VALUES:
            raise YAMLError(TOO_MANY)
        return super().construct_document(node)


def _written_out(node, counted):
    """How many values a node, or a value, holds: each alias counted as what it stands for, one inside itself once."""
    if id(node) not in counted:
        counted[id(node)] = 1
        if isinstance(node, (MappingNode, SequenceNode)):
            children = node.value
        else:
            children = node.items() if isinstance(node, dict) else node if isinstance(node, list) else ()
        for child in children:
            for each in child if isinstance(child, tuple) else (child,):
                counted[id(node)] = min(counted[id(node)] + _written_out(each, counted), VALUES + 1)
    return counted[id(node)]


def origins(path):
    """A function that says where in the YAML file ``path`` the value at a key path is written.

    Keys that share a place through an anchor (``*alias``, ``<<: *alias``) have the same origin, so that
    one slip in a block that five scales inherit is one error. Call it on files that :func:`read_yaml` reads.
    """
    text = Path(path).read_text(encoding="utf-8")
    root = YAML(typ="safe", pure=True).compose(text)
    children = {}  # of each block by name, once: thousands of errors may lie in one block

    def origin(keys):
        if root is None:  # an empty file
            return keys
        node = root
        for depth, key in enumerate(keys):
            child = _child(node, key, children)
            if child is None:  # a missing key: the block that ought to have it
                return (*_place(_base(node)), *keys[depth:])
            node = child
        return _place(node)

    return origin


def _place(node):
    return (node.start_mark.line, node.start_mark.column)


def _merged(node):
    """The mappings that ``<<`` puts into ``node``."""
    for key, value in node.value if isinstance(node, MappingNode) else ():
        if key.tag == "tag:yaml.org,2002:merge":
            yield from value.value if isinstance(value, SequenceNode) else [value]


def _base(node):
    return next((_base(each) for each in _merged(node)), node)


def _child(node, key, children):
    """What stands under ``key`` in ``node``; ``children`` keeps the blocks that were looked through."""
    if isinstance(node, SequenceNode):
        return node.value[key] if isinstance(key, int) and key < len(node.value) else None
    if not isinstance(node, MappingNode):
        return None
    if id(node) not in children:
        children[id(node)] = {k.value: v for k, v in node.value if isinstance(k.value, str)}
    own = children[id(node)].get(str(key))
    if own is not None:
        return own
    return next((child for each in _merged(node) if (child := _child(each, key, children)) is not None), None)
