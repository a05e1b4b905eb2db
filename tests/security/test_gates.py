"""The same tests in other circumstances: without asserts in the product, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
ROOT = Path(__file__).parent.parent.parent
NO_ROUTE = ROOT / "tests" / "support" / "no_route.py"
ROWS = "tests/security"
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


def run(*command: str, **environ: str) -> str:
    """What it printed, where it went well."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_cve_2026_41523_with_python_o() -> None:
    """Here and in the servers; asserts of tests are pytest's own, and stay."""
    quick = (ROWS, "tests/faults/test_bad_starts.py", "tests/shared")
    ignored = ("-W", "ignore::pytest.PytestConfigWarning")
    run(sys.executable, "-O", *PYTEST, *ignored, *quick, PYTHONOPTIMIZE="1")


def test_cve_2025_6242_where_no_route_leads_anywhere() -> None:
    """Whoever had to reach another host to serve, or did so for a request, would fail or wait."""
    inside = ("unshare", "--net", *(() if os.getuid() == 0 else ("--map-root-user",)))
    if subprocess.run([*inside, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network of our own may be had here")
    tests = (ROWS, "tests/e2e/test_openai_sdk.py", "tests/e2e/test_processes.py")
    run(*inside, sys.executable, str(NO_ROUTE), sys.executable, *PYTEST, *tests)
