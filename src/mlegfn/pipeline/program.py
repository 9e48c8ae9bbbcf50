"""Whether two versions of a Python file are the same program: what may differ is what nothing can read at run time.

Comments, layout, docstrings, annotations of functions, of their variables and of a module's, ``if
TYPE_CHECKING:`` blocks, and imports from ``typing`` and ``collections.abc`` that serve annotations alone. A
class's annotations are part of it: dataclasses, pydantic and NamedTuple make fields of them. So is whatever a
program may ask about itself: ``pipeline.introspection.reads`` says what it does ask for.

Two limits. An annotation is evaluated where its function is defined, so one of a name that exists but later, or of
an attribute that does not, stops a program that is called the same here; a program that stops has no result that
could be wrong. And a program that opens its own source files as data is not noticed.
"""

import ast
import builtins

from mlegfn.pipeline.introspection import ANNOTATIONS, DOCSTRINGS, LINES, NAMES, bindings, last

# Decorators that do not look at the annotations of what they decorate.
BLIND = {
    "abstractmethod",
    "cache",
    "cached_property",
    "classmethod",
    "contextmanager",
    "deleter",
    "enable_grad",
}
BLIND |= {"final", "inference_mode", "lru_cache", "no_grad", "overload", "override", "property", "setter"}
BLIND |= {"staticmethod", "wraps"}
TYPING = ("typing", "collections.abc")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
PLAIN = (ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.Tuple, ast.List, ast.BinOp, ast.BitOr)
PLAIN += (ast.Load, ast.Starred)
SCOPES = (*FUNCTIONS, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def difference(before, after, keep=frozenset()):
    """Where and how two sources (bytes) differ as programs, ``"12: x = 3, was x = 2"``; None where they do not.

    ``keep``: what of themselves they, or what runs beside them, read (``introspection.reads``). The line is ``after``'s.
    Raises SyntaxError.
    """
    if before == after:
        return None
    trees = [reduced(ast.parse(source), keep) for source in (before, after)]
    if LINES in keep:
        return "1: its text differs, and the program reads source lines or their numbers"
    if ast.dump(trees[0]) == ast.dump(trees[1]):
        return None
    old, new, line = first_difference(*trees, 1)
    if keep and difference(before, after) is None:
        return f"{line}: differs in {' or '.join(sorted(keep))}, which a program that runs with it reads"
    return f"{line}: {told(new)}, was {told(old)}"


def reduced(tree, keep):
    """``tree`` without what does not count; changed in place."""
    reduce = Reduce(keep, checking(tree))
    tree = reduce.visit(tree)
    if ANNOTATIONS not in keep:
        known = None if postponed(tree) else {*bound(tree), *dir(builtins)}
        for function in reduce.blind:
            strip(function, known)
    ast.fix_missing_locations(tree)
    if not any(annotated(node) for node in ast.walk(tree)):  # else it makes strings of what is left
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                node.names = [alias for alias in node.names if alias.name != "annotations"]
    if NAMES not in keep:
        drop_typing(tree)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and not node.names)]
    return tree


def postponed(tree):
    """Whether annotations are not evaluated where they stand."""
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )


def annotated(node):
    """Whether a node has an annotation."""
    return (
        isinstance(node, ast.AnnAssign)
        or getattr(node, "annotation", getattr(node, "returns", None)) is not None
    )


def checking(tree):
    """The names in ``tree`` that are typing's TYPE_CHECKING and nothing else."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "typing":
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "TYPE_CHECKING"}
    return {name for name in names if bound(tree).count(name) == 1}


def bound(tree):
    """Every name that anything in ``tree`` is bound to, once for each time."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.append(node.id)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            found.append(node.name)
        elif isinstance(node, ast.arg):
            found.append(node.arg)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            found.append(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            found.append(node.rest)
        found += bindings(node)
    return found


class Reduce(ast.NodeTransformer):
    """Takes out docstrings, variables' annotations and TYPE_CHECKING blocks."""

    def __init__(self, keep, checking):
        self.keep, self.checking, self.scopes = keep, checking, []
        self.blind = []  # functions whose decorators do not look at their annotations

    def visit(self, node):
        if not isinstance(node, (ast.Module, *FUNCTIONS, ast.ClassDef)):
            return super().visit(node)
        self.scopes.append(node)
        if DOCSTRINGS not in self.keep and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
        node = self.generic_visit(node)
        self.scopes.pop()
        if not node.body:
            node.body = [ast.Pass()]
        if isinstance(node, FUNCTIONS) and {last(d) for d in node.decorator_list} <= BLIND:
            self.blind.append(node)
        return node

    def visit_If(self, node):
        if not (isinstance(node.test, ast.Name) and node.test.id in self.checking):
            return self.generic_visit(node)
        return self.generic_visit(ast.Module(node.orelse, [])).body

    def visit_AnnAssign(self, node):
        node, scope = self.generic_visit(node), self.scopes[-1]
        module = isinstance(scope, ast.Module)
        if isinstance(scope, ast.ClassDef) or (module and {ANNOTATIONS, NAMES} & self.keep):
            return node
        if module and not plain(node.annotation):
            return node
        if node.value is not None:
            return ast.copy_location(ast.Assign([node.target], node.value), node)
        if isinstance(node.target, ast.Name) and (module or node.target.id in assigned(scope)):
            return None
        node.annotation = ast.Constant(None)  # it makes the name a local one
        return node


def strip(function, known):
    """Take a function's annotations away, but for those that do something, or fail, where they are evaluated."""
    arguments = function.args
    for each in (
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ):
        if each is not None and plain(each.annotation, known):
            each.annotation = None
    if plain(function.returns, known):
        function.returns = None


def plain(annotation, known=None):
    """Whether an annotation is made of names (``known`` ones, if given), attributes, subscripts, unions and
    constants alone."""
    if annotation is None:
        return True
    nodes = list(ast.walk(annotation))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return all(isinstance(node, PLAIN) for node in nodes) and (known is None or names <= known)


def assigned(function):
    """The names that a function's own body assigns, not those of functions, classes, comprehensions inside."""
    names = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, SCOPES):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if not (isinstance(node, ast.AnnAssign) and node.value is None):
            waiting += ast.iter_child_nodes(node)
    return names


def drop_typing(tree):
    """Take out the module's typing imports that only annotations, now gone, have used."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):  # "Callable[[int], int]" of a class, and what __all__ lists
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inside = ast.walk(ast.parse(node.value, mode="eval"))
            except (SyntaxError, ValueError):
                continue
            used |= {each.id for each in inside if isinstance(each, ast.Name)}
    names, body = bound(tree), []
    for node in tree.body:
        typing = isinstance(node, ast.ImportFrom) and node.module in TYPING and not node.level
        if typing or (isinstance(node, ast.Import) and all(a.name in TYPING for a in node.names)):
            name = {alias: alias.asname or alias.name.split(".")[0] for alias in node.names}
            node.names = [
                a for a in node.names if name[a] in used or name[a] == "*" or names.count(name[a]) > 1
            ]
        if getattr(node, "names", True):
            body.append(node)
    tree.body = body


def first_difference(old, new, line):
    """(old, new, line): the smallest nodes at which two trees part first."""
    line = getattr(new, "lineno", line)
    if type(old) is not type(new):
        return old, new, line
    for name in new._fields:
        a, b = getattr(old, name, None), getattr(new, name, None)
        if same(a, b):
            continue
        if isinstance(a, list) and isinstance(b, list):
            place = next((i for i, pair in enumerate(zip(a, b)) if not same(*pair)), min(len(a), len(b)))
            pair = [part[place] if place < len(part) else None for part in (a, b)]
            if len(a) != len(b):
                return *pair, getattr(pair[1], "lineno", line)
            a, b = pair
        return (
            first_difference(a, b, line)
            if isinstance(a, ast.AST) and isinstance(b, ast.AST)
            else (old, new, line)
        )
    raise AssertionError("two trees that do not differ")


def same(a, b):
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, ast.AST) and isinstance(b, ast.AST):
        return ast.dump(a) == ast.dump(b)
    return type(a) is type(b) and a == b


def told(node):
    """A node's first line, or what stands for it."""
    if not isinstance(node, ast.AST):
        return "nothing" if node is None else str(node)[:60]
    text = ast.unparse(ast.fix_missing_locations(node)).strip() or type(node).__name__
    first = text.splitlines()[0]
    return first if len(first) <= 60 else first[:57] + "…"
