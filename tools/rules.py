"""Import rules and banned calls: `python tools/rules.py` prints every breach and fails on one.

The rules are those of the design: services never import each other, what needs no torch imports
none, and nothing that turns bytes into code exists in the product.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("shared", "kernels", "services")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "octavo.shared": ("octavo.shared",),
    "octavo.kernels": ("octavo.kernels", "octavo.shared"),
    "octavo.services.frontend": ("octavo.services.frontend", "octavo.shared"),
    "octavo.services.grammar": ("octavo.services.grammar", "octavo.shared"),
    "octavo.services.templates": ("octavo.services.templates", "octavo.shared"),
    "octavo.services.scheduler": ("octavo.services.scheduler", "octavo.shared"),
    "octavo.services.worker": ("octavo.services.worker", "octavo.kernels", "octavo.shared"),
    "octavo.services.demo": ("octavo.services.demo", "octavo.shared"),
    "octavo.services.supervisor": (
        "octavo.services.supervisor",
        # A table of names, read so that an unknown architecture is refused before the start.
        "octavo.services.worker.models",
        "octavo.shared",
    ),
    "octavo.services.library": ("octavo.llm", "octavo.services.supervisor", "octavo.shared"),
    "octavo.services.batch": (
        "octavo.services.batch",
        "octavo.services.supervisor",
        "octavo.shared",
    ),
    "octavo.services.plan": (
        "octavo.services.plan",
        "octavo.services.supervisor",
        # What a worker reads and reckons before it needs torch.
        "octavo.services.worker.checkpoint",
        "octavo.services.worker.encoder_config",
        "octavo.services.worker.memory",
        "octavo.services.worker.model_config",
        "octavo.shared",
    ),
    "octavo.services.client": (
        "octavo.services.client",
        # How a server of this machine is asked.
        "octavo.services.supervisor.admin",
        "octavo.shared",
    ),
    "octavo.services.doctor": (
        "octavo.services.doctor",
        "octavo.services.supervisor",
        "octavo.services.worker.checkpoint",
        "octavo.shared",
    ),
    "octavo.services.verify": (
        "octavo.services.verify",
        "octavo.services.supervisor",
        # What it verifies.
        "octavo.services.worker",
        "octavo.kernels",
        "octavo.shared",
    ),
    "octavo.services.completion": (
        "octavo.services.batch",
        "octavo.services.client",
        "octavo.services.doctor",
        "octavo.services.plan",
        "octavo.services.supervisor",
        "octavo.services.verify",
        "octavo.shared",
    ),
    "octavo.services.launch": (
        "octavo.services.batch",
        "octavo.services.client",
        "octavo.services.completion",
        "octavo.services.doctor",
        "octavo.services.plan",
        "octavo.services.supervisor",
        "octavo.services.verify",
        "octavo.shared",
    ),
}
WITHOUT_TORCH = (
    "octavo.shared",
    "octavo.services.frontend",
    "octavo.services.grammar",
    "octavo.services.templates",
    "octavo.services.scheduler",
    "octavo.services.supervisor",
    "octavo.services.library",
    "octavo.services.batch",
    "octavo.services.plan",
    "octavo.services.client",
    "octavo.services.doctor",
    "octavo.services.completion",
    "octavo.services.launch",
)
TORCH_AND_CO = ("torch", "triton", "transformers")
DISTRIBUTED_USER = "octavo.services.worker.parallel"
ENVIRONMENT_READERS = ("octavo.shared.environment", "octavo.services.launch")

BANNED_MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"),
    *("multiprocessing", "torch.multiprocessing"),
}
BANNED_NAMES = {"eval", "exec", "compile", "__import__"}
BANNED_ATTRIBUTES = {
    *("torch.load", "torch.save", "yaml.load", "yaml.unsafe_load"),
    *("os.system", "os.popen", "np.load", "numpy.load"),
}
OBJECT_COLLECTIVES = ("_object", "_object_list")


def module_name(path: Path) -> str:
    """`services/worker/worker.py` -> `octavo.services.worker.worker`."""
    parts = path.with_suffix("").parts
    return ".".join(("octavo", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def breaches(path: Path, text: str) -> list[str]:
    """Every breach in one file; `path` is relative to the root."""
    module = module_name(path)
    tree = ast.parse(text)
    found = [*_imports(module, tree), *_calls(module, tree), *_names(path)]
    return [f"{path}:{line}: {what}" for line, what in sorted(found)]


Breach = tuple[int, str]


def _imports(module: str, tree: ast.Module) -> Iterator[Breach]:
    room = next(room for room in MAY_IMPORT if _inside(module, room))
    for line, name in _imported(tree):
        if name.startswith("octavo.") and not _any_inside(name, MAY_IMPORT[room]):
            yield line, f"{room} must not import {name}"
        if room in WITHOUT_TORCH and _any_inside(name, TORCH_AND_CO):
            yield line, f"{room} must not import {name}"
        if _inside(name, "torch.distributed") and module != DISTRIBUTED_USER:
            yield line, f"only {DISTRIBUTED_USER} may import torch.distributed"
        if _any_inside(name, tuple(BANNED_MODULES)):
            yield line, f"{name} is banned"


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _calls(module: str, tree: ast.Module) -> Iterator[Breach]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield node.lineno, "assert is gone under -O: raise instead"
        elif isinstance(node, ast.Call):
            yield from _call(node)
        elif isinstance(node, ast.Attribute):
            yield from _attribute(module, node)


def _call(node: ast.Call) -> Iterator[Breach]:
    if isinstance(node.func, ast.Name) and node.func.id in BANNED_NAMES:
        yield node.lineno, f"{node.func.id}() is banned"
    for keyword in node.keywords:
        value = keyword.value
        if keyword.arg == "shell" and not (isinstance(value, ast.Constant) and not value.value):
            yield node.lineno, "shell=True is banned"


def _attribute(module: str, node: ast.Attribute) -> Iterator[Breach]:
    name = ast.unparse(node)
    if name in BANNED_ATTRIBUTES:
        yield node.lineno, f"{name} is banned"
    if node.attr.endswith(OBJECT_COLLECTIVES):
        yield node.lineno, f"{name} pickles: banned"
    if name == "torch.distributed" and module != DISTRIBUTED_USER:
        yield node.lineno, f"only {DISTRIBUTED_USER} may use torch.distributed"
    if name in ("os.environ", "os.getenv", "os.environb") and module not in ENVIRONMENT_READERS:
        yield node.lineno, f"{name}: only {' and '.join(ENVIRONMENT_READERS)} read the environment"


def _names(path: Path) -> Iterator[Breach]:
    if path.stem in sys.stdlib_module_names and path.stem != "__main__":
        yield 1, f"{path.name} is named like a module of the standard library"
    if path.name == "__init__.py" and len(path.parts) == 2:
        yield 1, "no __init__.py directly in services, kernels, shared: see docs/architecture.md"


def _inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _any_inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(_inside(name, package) for package in packages)


def main(root: Path) -> int:
    paths = [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))]
    found = [
        line
        for path in paths
        for line in breaches(path.relative_to(root), path.read_text(encoding="utf-8"))
    ]
    print("\n".join(found) if found else f"rules: {len(paths)} files, no breach")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent.parent))
