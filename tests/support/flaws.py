"""Published flaws, and the tests that name them: by their own name, a case's, or their docstring.

`pytest -k cve_2026_94625` finds each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from bad_requests import OUT_OF_BOUNDS

FLAW = re.compile(r"(cve_\d{4}_\d+|pysec_\d{4}_\d+|ghsa(?:_\w{4}){3})(?!\d)")


def flaws_in(text: str) -> set[str]:
    """As keywords: cve_2026_94625."""
    return set(FLAW.findall(text.lower().replace("-", "_")))


def named_by_tests(folder: Path) -> set[str]:
    """All that some test of a folder is about."""
    found = {name for case, _, _ in OUT_OF_BOUNDS for name in flaws_in(case)}
    for path in folder.glob("test_row_*.py"):
        for function in _tests(ast.parse(path.read_text())):
            found |= flaws_in(f"{function.name} {ast.get_docstring(function) or ''}")
    return found


def _tests(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node
