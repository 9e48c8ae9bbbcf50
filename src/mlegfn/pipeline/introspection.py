"""What a Python program asks about programs: their docstrings, annotations, source lines, module namespaces.

To ``pipeline.program`` these are no part of a program, unless it, or what runs beside it, asks for them.
"""

import ast

DOCSTRINGS, ANNOTATIONS, LINES, NAMES = "docstrings", "annotations", "source lines", "module namespaces"

# What a program calls to see a part of itself that is otherwise left out of the comparison.
READERS = {
    "__doc__": DOCSTRINGS,
    "getdoc": DOCSTRINGS,
    "doctest": DOCSTRINGS,
    "use_attribute_docstrings": DOCSTRINGS,
    "__annotations__": ANNOTATIONS,
    "__signature__": ANNOTATIONS,
    "get_annotations": ANNOTATIONS,
    "get_type_hints": ANNOTATIONS,
    "getfullargspec": ANNOTATIONS,
    "signature": ANNOTATIONS,
    "Signature": ANNOTATIONS,
    "singledispatch": ANNOTATIONS,
    "singledispatchmethod": ANNOTATIONS,
    "validate_call": ANNOTATIONS,
    "TypeAdapter": ANNOTATIONS,
    "custom_op": ANNOTATIONS,
    "infer_schema": ANNOTATIONS,
    "typeguard": ANNOTATIONS,
    "beartype": ANNOTATIONS,
    "jaxtyping": ANNOTATIONS,
    "jit": ANNOTATIONS,  # torch.jit compiles by them
    "getsource": LINES,
    "getsourcelines": LINES,
    "findsource": LINES,
    "getcomments": LINES,
    "linecache": LINES,
    "tokenize": LINES,
    "currentframe": LINES,
    "_getframe": LINES,
    "extract_stack": LINES,
    "f_lineno": LINES,
    "tb_lineno": LINES,
    "co_firstlineno": LINES,
    "co_lines": LINES,
    "co_positions": LINES,
    "co_consts": DOCSTRINGS,
    "globals": NAMES,
    "get_overloads": NAMES,
}
ABOUT = ("vars", "dir", "getmembers")  # of a module: its names; of an object: its attributes


def reads(source):
    """What a program (bytes) asks about programs: a set of DOCSTRINGS, ANNOTATIONS, LINES, NAMES."""
    tree, found = ast.parse(source), set()
    imported = {name for node in ast.walk(tree) for name in bindings(node)}
    for node in ast.walk(tree):
        words = []
        if isinstance(node, ast.Name):
            words = [node.id]
        elif isinstance(node, ast.Attribute):
            words = [node.attr]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            words = [part for alias in node.names for part in alias.name.split(".")]
            words += (getattr(node, "module", None) or "").split(".")
        elif isinstance(node, ast.Call):  # getattr(x, "__doc__")
            words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            words += [k.arg for k in node.keywords]
            if last(node.func) in ABOUT and namespace(node.args, imported):
                found.add(NAMES)
        if isinstance(node, ast.Attribute) and node.attr == "__dict__" and namespace([node.value], imported):
            found.add(NAMES)
        found |= {READERS[word] for word in words if word in READERS}
    return found


def namespace(arguments, imported):
    """Whether ``vars(*arguments)`` may list a module's names: of an import, of what a call gives, of its own."""
    if not arguments:
        return True
    root = arguments[0]
    while isinstance(root, (ast.Attribute, ast.Subscript)):
        root = root.value
    return not isinstance(root, ast.Name) or root.id in imported


def bindings(node):
    """The names that an import gives."""
    if not isinstance(node, (ast.Import, ast.ImportFrom)):
        return []
    return [alias.asname or alias.name.split(".")[0] for alias in node.names]


def last(node):
    """``c`` of ``a.b.c`` and of ``a.b.c(…)``; None for what has no name."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
