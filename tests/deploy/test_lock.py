"""The lock file: everything that an image installs, by hashes, from nowhere in particular."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
ENTRY = re.compile(r"(?P<what>[^\n\\]+?) ?\\\n(?P<hashes>(?:    --hash=\S+(?: \\)?\n)+)")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
PYTHONS = ("3.11", "3.12", "3.13")
FOR_GPUS = ("torch==", "triton==", "nvidia-", "cuda-")


def entries() -> list[tuple[Requirement, list[str]]]:
    text = (ROOT / "requirements.lock").read_text()
    found = list(ENTRY.finditer(text))
    # No line is anything else: no index, no address, no folder, no option.
    assert "".join(one.group(0) for one in found) == text
    return [(Requirement(one["what"]), one["hashes"].splitlines()) for one in found]


def environment(python: str) -> dict[str, str]:
    """An image's."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def locked(python: str) -> dict[str, str]:
    """Versions by name."""
    found: dict[str, str] = {}
    for one, _ in entries():
        if one.marker is None or one.marker.evaluate(environment(python)):
            assert one.name not in found, one
            [pin] = one.specifier
            assert pin.operator == "==" and "*" not in pin.version and one.url is None, one
            found[canonicalize_name(one.name)] = pin.version
    return found


def test_every_entry_has_hashes() -> None:
    for one, hashes in entries():
        assert hashes and all(HASH.fullmatch(line) for line in hashes), one


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_locked_within_its_range(python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = locked(python)
    for text in project["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(found[canonicalize_name(wanted.name)]), text
    assert "setuptools" in found  # with which images build


def test_images_install_by_hash_and_build_without_a_network() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    commands = [one for one in re.findall(r"pip install ([^&\n]*)", text)]
    assert len(commands) == 5
    for command in commands:
        by_hash = "--require-hashes -r" in command
        ours = command.split()[-1] == "." and "--no-deps --no-build-isolation" in command
        of_pytorch = "torch==" in command and "--no-deps" in command
        assert by_hash or ours or of_pytorch, command


def pip_would_install(*what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    options = ["--no-deps", "--only-binary=:all:", "--retries=0"]
    return subprocess.run([*command, *options, *what], capture_output=True, text=True)


@pytest.mark.slow
def test_pip_finds_what_is_locked_with_these_hashes(tmp_path: Path) -> None:
    """But what is for GPUs alone, which is gigabytes."""
    if pip_would_install("idna").returncode:
        pytest.skip("no package index answers")
    text = (ROOT / "requirements.lock").read_text()
    kept = [one[0] for one in ENTRY.finditer(text) if not one[0].startswith(FOR_GPUS)]
    (lock := tmp_path / "cpu.lock").write_text("".join(kept))
    ended = pip_would_install("--require-hashes", "-r", str(lock))
    assert ended.returncode == 0, ended.stderr
    [found] = re.findall(r"^Would install (.*)$", ended.stdout, re.M)
    assert len(found.split()) > 40
