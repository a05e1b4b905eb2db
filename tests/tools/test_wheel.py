"""The wheel holds the whole product and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("shared", "kernels", "services")
FILES = ("pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


def build(directory: Path) -> set[str]:
    """The names in a wheel built from a copy of the tree."""
    source = directory / "source"
    source.mkdir()
    for room in ROOMS:
        shutil.copytree(
            ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    for file in FILES:
        shutil.copy(ROOT / file, source / file)
    subprocess.run(
        [sys.executable, "-c", BUILD, str(directory)], cwd=source, check=True, capture_output=True
    )
    (wheel,) = directory.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel(tmp_path: Path) -> None:
    names = build(tmp_path)
    product = {name for name in names if ".dist-info/" not in name}
    code = {path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert {f"octavo/{path.relative_to(ROOT)}" for path in code} <= product
    assert {f"octavo/{room}/py.typed" for room in ROOMS} <= product
    tuned = ROOT / "kernels" / "tuned"
    assert {f"octavo/{path.relative_to(ROOT)}" for path in tuned.iterdir()} <= product
    assert {"octavo/llm/__init__.py", "octavo/llm/llm.py"} <= product
    model = ROOT / "services" / "demo" / "model"
    assert {f"octavo/{path.relative_to(ROOT)}" for path in model.glob("*")} <= product
    folders = {"octavo/shared/", "octavo/kernels/", "octavo/services/", "octavo/llm/"}
    assert all(any(name.startswith(folder) for folder in folders) for name in product)
    assert any(name.endswith("licenses/LICENSE") for name in names)
