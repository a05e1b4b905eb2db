from __future__ import annotations

from collections.abc import Iterator

import pytest
from house_supervisor import Served


@pytest.fixture
def serving() -> Iterator[list[Served]]:
    """Collects what a test starts, and ends it."""
    started: list[Served] = []
    yield started
    for served in started:
        served.close()
