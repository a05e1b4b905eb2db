"""Every published flaw that we know of has its test, or its reason for having none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flaws import flaws_in, named_by_tests

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "security.md"

PUBLISHED = {
    "A": """
        CVE-2024-9053 CVE-2024-9052 CVE-2024-11041 CVE-2024-50050 CVE-2025-10164
        CVE-2025-29783 CVE-2025-30165 CVE-2025-30202 CVE-2025-32444 CVE-2025-47277
        CVE-2026-3059 CVE-2026-3060 CVE-2026-3989 CVE-2026-7301 CVE-2026-14890 CVE-2026-15969
        CVE-2026-86793 CVE-2026-93034 CVE-2026-115912
    """,
    "B": """
        CVE-2025-62164 CVE-2025-62372 CVE-2026-56340 PYSEC-2026-2303 GHSA-33cg-gxv8-3p8g
        CVE-2025-32434 CVE-2026-24747
    """,
    "C": """
        CVE-2025-24357 CVE-2025-66448 CVE-2026-22807 CVE-2026-27893 CVE-2026-41523
        CVE-2026-47155 CVE-2026-114053 CVE-2026-5760 CVE-2026-15976 CVE-2026-4372
        CVE-2026-46517 CVE-2026-7482 CVE-2025-66959 CVE-2025-66960 CVE-2026-103663
        CVE-2024-37032 CVE-2024-45436
    """,
    "D": """
        CVE-2025-61620 PYSEC-2026-2013 CVE-2025-62426 CVE-2026-115918 CVE-2026-115911
        GHSA-542m-9234-8gvf
    """,
    "E": """
        CVE-2025-48942 CVE-2025-48943 CVE-2025-48944 CVE-2025-71379 CVE-2025-48887
        CVE-2025-29770 CVE-2025-32381 GHSA-hf3c-wxg2-49q9 CVE-2026-55574 PYSEC-2026-3933
        CVE-2026-105757 CVE-2025-9141
    """,
    "F": """
        CVE-2024-8939 CVE-2024-8768 CVE-2026-34756 CVE-2026-73559 CVE-2026-71486
        CVE-2026-54235 CVE-2026-116173 CVE-2026-114051 CVE-2026-105756 CVE-2026-44223
        CVE-2026-116180 CVE-2026-9540 CVE-2026-94626 CVE-2026-110807 CVE-2026-110809
    """,
    "G": """
        CVE-2025-25183 GHSA-rm76-4mrf-v9r8 CVE-2025-46570 CVE-2025-46722 CVE-2026-93840
        CVE-2026-93989 CVE-2026-114049 GHSA-v97p-wpxp-px84 GHSA-fpch-3xrf-7q96 CVE-2026-105754
        CVE-2026-105755 CVE-2026-112266 CVE-2026-111392
    """,
    "H": """
        CVE-2025-48956 CVE-2026-48746 CVE-2026-48710 PYSEC-2026-248 CVE-2025-59425
        CVE-2025-23310 CVE-2025-23311 CVE-2025-23317 CVE-2025-23319 CVE-2025-23320
        CVE-2026-24206 CVE-2026-24207 CVE-2026-24208 CVE-2026-47627 CVE-2025-63389
        CVE-2025-43859
    """,
    "I": """
        CVE-2025-6242 CVE-2026-24779 CVE-2026-25960 CVE-2026-116176 CVE-2026-100650
        CVE-2026-130686 CVE-2026-105760 CVE-2026-0599 CVE-2026-63764
    """,
    "J": "CVE-2026-22778 CVE-2026-54236 PYSEC-2026-4325",
    "K": "CVE-2026-94625 CVE-2026-94627",
    "L": "CVE-2026-54232 PYSEC-2026-2 CVE-2026-111391 CVE-2026-92972 CVE-2026-7302",
}


def not_here() -> set[str]:
    """Those of the page's table, each with its reason."""
    rows = re.findall(r"^\| ((?:CVE|PYSEC|GHSA)-\S+) \| .+ \| .+ \|$", PAGE.read_text(), re.M)
    return {name for row in rows for name in flaws_in(row)}


@pytest.mark.parametrize("row", PUBLISHED)
def test_every_flaw_has_its_test_or_its_reason(row: str) -> None:
    published = flaws_in(PUBLISHED[row])
    assert len(published) == len(PUBLISHED[row].split())
    assert published - named_by_tests(HERE) - not_here() == set()


def test_a_docstring_names_its_test(request: pytest.FixtureRequest) -> None:
    """CVE-0000-12345: so `-k` finds it by that, and by its name as ever."""
    assert "cve_0000_12345" in request.node.extra_keyword_matches
    assert flaws_in(request.node.name) == set()


def test_the_page_names_the_tests_that_there_are() -> None:
    named = {word.strip("`,()") for word in PAGE.read_text().split() if "test_" in word}
    files = {path.name for path in HERE.parent.rglob("test_*.py")}
    assert {Path(name).name for name in named if name.endswith(".py")} <= files
