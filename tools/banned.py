"""What no file of the product may name: what turns bytes into code, or starts a shell.

`tools/rules.py` and tests/security share it. Names are followed through imports and their aliases,
so `from torch import load as read` is found where `torch.load` is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

Found = tuple[int, str]
"""A line, and what stands there."""

MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "code"),
    *("multiprocessing", "zipfile", "tarfile", "codeop", "runpy", "imp", "xmlrpc", "telnetlib"),
}
"""Not to be imported, with all that is in them."""
NAMES = {
    *("torch.load", "torch.save", "torch.jit.load", "torch.hub", "torch.package"),
    *("torch.multiprocessing", "torch.serialization", "numpy.load", "pandas.read_pickle"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "importlib.util", "shutil.unpack_archive"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"),
    *("ctypes.string_at", "builtins", "__builtins__", "breakpoint"),
    *("eval", "exec", "compile", "__import__", "execfile"),
}
"""With all that is in them."""
PICKLING = ("_object", "_object_list", "send_pyobj", "recv_pyobj", "allow_pickle")
"""Ends of attributes: collectives and sockets that pickle."""
KEYWORDS = {"shell", "allow_pickle", "trust_remote_code"}
"""But where they are said to be False."""
USUAL = {"np": "numpy"}


def imports(tree: ast.AST) -> Iterator[Found]:
    """In full, with what is taken from a module: `a.b` of `from a import b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def names(tree: ast.AST) -> Iterator[Found]:
    """All that is imported, and all that is named, in full."""
    known = _known(tree)
    yield from imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.Call):
            full = _full(node, known)
            if full is not None:
                yield node.lineno, full


def banned(tree: ast.AST) -> Iterator[Found]:
    known = _known(tree)
    for line, name in imports(tree):
        if _within(name, MODULES):
            yield line, f"{name} is banned"
    for line, name in names(tree):
        if _within(name, NAMES):
            yield line, f"{name} is banned"
        elif "." in name and name.endswith(PICKLING) and not name.startswith("octavo."):
            yield line, f"{name} pickles: banned"
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in KEYWORDS and not _is_false(node.value):
            yield node.value.lineno, f"{node.arg}= is banned"
        elif isinstance(node, ast.Dict):
            yield from _keys(node)
        elif isinstance(node, ast.Call) and _imports_a_stranger(node, known):
            yield node.lineno, "import_module is banned but for modules of octavo"


def _known(tree: ast.AST) -> dict[str, str]:
    """By name in this file, what it is in full."""
    return {**USUAL, **dict(_aliases(tree))}


def _aliases(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _full(node: ast.expr, known: dict[str, str]) -> str | None:
    """`a.b.c`, or getattr(a.b, "c"), with what `a` stands for; None for other expressions."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner, attribute = node.value, node.attr
    elif isinstance(node, ast.Call) and len(node.args) > 1 and _is_getattr(node):
        owner, attribute = node.args[0], str(getattr(node.args[1], "value", ""))
    else:
        return None
    full = _full(owner, known)
    return f"?.{attribute}" if full is None else f"{full}.{attribute}"


def _is_getattr(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "getattr"


def _imports_a_stranger(node: ast.Call, known: dict[str, str]) -> bool:
    """By a name that does not visibly begin with ours."""
    if not (_full(node.func, known) or "").endswith("import_module"):
        return False
    given = node.args[0] if node.args else None
    start = given.values[0] if isinstance(given, ast.JoinedStr) else given
    return not (isinstance(start, ast.Constant) and str(start.value).startswith("octavo."))


def _keys(node: ast.Dict) -> Iterator[Found]:
    """Of a dictionary, which may become keywords."""
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and key.value in KEYWORDS and not _is_false(value):
            yield node.lineno, f"{key.value}= is banned"


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _within(name: str, places: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:count]) in places for count in range(1, len(parts) + 1))
