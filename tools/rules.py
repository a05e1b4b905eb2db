"""Import rules and banned calls: `python tools/rules.py` prints every breach and fails on one.

The rules are those of the design: services never import each other, what needs no torch imports
none, and nothing that turns bytes into code exists in the product.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH leaves it out
from banned import banned, imports, names

ROOMS = ("shared", "kernels", "services")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "octavo.shared": ("octavo.shared",),
    "octavo.kernels": ("octavo.kernels", "octavo.shared"),
    "octavo.services.frontend": ("octavo.services.frontend", "octavo.shared"),
    "octavo.services.exporter": (
        "octavo.services.exporter",
        # How a frontend meets clients, supervisor and scheduler, without what it makes of texts.
        "octavo.services.frontend.access",
        "octavo.services.frontend.auth",
        "octavo.services.frontend.duties",
        "octavo.services.frontend.edge",
        "octavo.services.frontend.engine_client",
        "octavo.services.frontend.routes.health",
        "octavo.services.frontend.server",
        "octavo.shared",
    ),
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
    "octavo.services.exporter",
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
ENVIRONMENT = ("os.environ", "os.environb", "os.getenv", "os.getenvb")
WEB_SERVER = ("starlette", "uvicorn", "httptools", "uvloop")
WEB_SERVER_USERS = ("octavo.services.frontend", "octavo.services.exporter")


def module_name(path: Path) -> str:
    """`services/worker/worker.py` -> `octavo.services.worker.worker`."""
    parts = path.with_suffix("").parts
    return ".".join(("octavo", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def breaches(path: Path, text: str) -> list[str]:
    """Every breach in one file; `path` is relative to the root."""
    module = module_name(path)
    tree = ast.parse(text)
    found = [*_imports(module, tree), *_uses(module, tree), *banned(tree), *_names(path)]
    return [f"{path}:{line}: {what}" for line, what in sorted(set(found))]


Breach = tuple[int, str]


def _imports(module: str, tree: ast.Module) -> Iterator[Breach]:
    room = next(room for room in MAY_IMPORT if _inside(module, room))
    for line, name in imports(tree):
        if name.startswith("octavo.") and not _any_inside(name, MAY_IMPORT[room]):
            yield line, f"{room} must not import {name}"
        if room in WITHOUT_TORCH and _any_inside(name, TORCH_AND_CO):
            yield line, f"{room} must not import {name}"
        if room not in WEB_SERVER_USERS and _any_inside(name, WEB_SERVER):
            only = " and ".join(WEB_SERVER_USERS)
            yield line, f"{room} must not import {name}: only {only} serve HTTP"


def _uses(module: str, tree: ast.Module) -> Iterator[Breach]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield node.lineno, "assert is gone under -O: raise instead"
    for line, name in names(tree):
        if _inside(name, "torch.distributed") and module != DISTRIBUTED_USER:
            yield line, f"only {DISTRIBUTED_USER} may use torch.distributed"
        if name in ENVIRONMENT and module not in ENVIRONMENT_READERS:
            yield line, f"{name}: only {' and '.join(ENVIRONMENT_READERS)} read the environment"


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
