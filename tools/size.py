"""The size budget: `python tools/size.py` prints a table and fails over a cap."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOMS = ("shared", "kernels", "services")
LINES_WANTED, LINES_ALLOWED = 400, 500
FUNCTION_ALLOWED, MEDIAN_ALLOWED, P90_ALLOWED = 60, 9, 30


@dataclass(frozen=True)
class File:
    path: Path
    room: str
    num_lines: int
    functions: dict[str, int]
    """Name -> lines, decorators not counted."""


def measure(root: Path) -> list[File]:
    return [_measure(path, root) for room in ROOMS for path in sorted((root / room).rglob("*.py"))]


def _measure(path: Path, root: Path) -> File:
    text = path.read_text(encoding="utf-8")
    place = path.relative_to(root)
    room = "/".join(place.parts[:2]) if len(place.parts) > 2 else place.parts[0]
    return File(place, room, len(text.splitlines()), dict(_functions(ast.parse(text))))


def _functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            yield f"{node.name}:{node.lineno}", size


def over_budget(files: list[File]) -> list[str]:
    """One line for each cap that is passed."""
    found = [
        f"{file.path}: {file.num_lines} lines, at most {LINES_ALLOWED} allowed"
        for file in files
        if file.num_lines > LINES_ALLOWED
    ]
    found += [
        f"{file.path}: function {name} has {size} lines, at most {FUNCTION_ALLOWED} allowed"
        for file in files
        for name, size in file.functions.items()
        if size > FUNCTION_ALLOWED
    ]
    median, p90, _ = summary(files)
    if median > MEDIAN_ALLOWED or p90 > P90_ALLOWED:
        found.append(
            f"functions have median {median:g} and p90 {p90} lines, "
            f"at most {MEDIAN_ALLOWED} and {P90_ALLOWED} allowed"
        )
    return found


def summary(files: list[File]) -> tuple[float, int, int]:
    """Median, 90th percentile and maximum of the functions' lines."""
    sizes = sorted(size for file in files for size in file.functions.values())
    if not sizes:
        return 0.0, 0, 0
    return statistics.median(sizes), sizes[int(0.9 * (len(sizes) - 1))], sizes[-1]


def table(files: list[File]) -> Iterator[str]:
    yield f"{'room':22}{'files':>6}{'lines':>7}  {'functions: median / p90 / max':30}biggest file"
    rooms = dict.fromkeys(file.room for file in files)
    for room in rooms:
        yield _row(room, [file for file in files if file.room == room])
    yield _row("all", files)


def _row(name: str, files: list[File]) -> str:
    median, p90, longest = summary(files)
    biggest = max(files, key=lambda file: file.num_lines)
    lines = sum(file.num_lines for file in files)
    shape = f"{median:g} / {p90} / {longest}"
    return f"{name:22}{len(files):6}{lines:7}  {shape:30}{biggest.path.name} {biggest.num_lines}"


def main(root: Path) -> int:
    files = measure(root)
    print("\n".join(table(files)))
    for file in files:
        if LINES_WANTED < file.num_lines <= LINES_ALLOWED:
            print(f"warning: {file.path} has {file.num_lines} lines, {LINES_WANTED} wanted")
    broken = over_budget(files)
    print("\n".join(f"error: {line}" for line in broken), file=sys.stderr, end="\n" * bool(broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent.parent))
