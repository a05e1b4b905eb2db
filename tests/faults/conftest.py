"""Servers to be hurt, and what the same requests gave on one that was not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fault_checks import COUNT, FLAGS, TOKENS
from fault_streams import Seen, Streams
from octavo_server import Server, serving


@pytest.fixture(scope="session")
def reference() -> list[Seen]:
    """R of the acceptance figures."""
    with serving(*FLAGS) as server:
        seen = Streams(server.url, COUNT, TOKENS).run()
    assert all(one.done and len(one.ids) == TOKENS for one in seen), [one.error for one in seen]
    return seen


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers with flags; at the end they are stopped, and must go in peace."""
    started: list[Server] = []

    def make(*flags: str, **options: Any) -> Server:
        server = Server(*FLAGS, *flags, **options)
        started.append(server)
        server.wait_ready()
        return server

    yield make
    for server in started:
        if server.process.poll() is None:
            assert server.stop() == 0, "\n".join(server.lines)
