"""One server of the bundled demo model for the commands that talk to one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from octavo_server import Server, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving("--device", "cpu", "--served-model-name", "demo") as running:
        yield running
