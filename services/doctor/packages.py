"""Whether the Python packages here are those that Octavo was written for."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from octavo.services.doctor.finding import Finding, error, ok
from octavo.shared.version import VERSION

OLDEST_PYTHON = (3, 11)
PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < OLDEST_PYTHON:
        return error("Python", version, "use 3.11 or newer")
    return ok("Python", f"{version}, octavo {VERSION}")


def packages() -> Iterator[Finding]:
    wrong = list(faults(requirements()))
    yield from wrong
    if not wrong:
        yield ok("packages", f"{len(requirements())} as required")


def requirements() -> list[Requirement]:
    """Of the source tree where we run from one, else of the installed package."""
    try:
        lines = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    except (OSError, KeyError):
        lines = importlib.metadata.requires("octavo") or []
    found = [Requirement(line) for line in lines]
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def faults(wanted: list[Requirement]) -> Iterator[Finding]:
    for need in wanted:
        fix = f"pip install '{need.name}{need.specifier}'"
        try:
            version = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            yield error("packages", f"{need.name} is not installed", fix)
            continue
        if not need.specifier.contains(version, prereleases=True):
            yield error("packages", f"{need.name} {version} is not {need.specifier}", fix)
