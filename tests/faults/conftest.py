"""Servers to be hurt, and what the same requests gave on one that was not."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_checks import COUNT, FLAGS, TOKENS, Footprint
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
def start(reference: list[Seen]) -> Iterator[Callable[..., Server]]:
    """Starts servers with flags. At the end each that is left must be as it was at first and give
    right answers, whatever has been done to it; then it is stopped, and must go in peace."""
    with contextlib.ExitStack() as end:

        def make(*flags: str, tracebacks: bool = False, **options: Any) -> Server:
            server = Server(*FLAGS, *flags, **options)
            end.callback(stop, server)
            server.wait_ready()
            end.callback(Footprint(server, reference, tracebacks=tracebacks).check)
            return server

        yield make


@pytest.fixture
def sockets() -> Iterator[Path]:
    """Where a server puts its own; a short path."""
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        yield Path(temporary)


def stop(server: Server) -> None:
    if server.process.poll() is None:
        assert server.stop() == 0, "\n".join(server.lines)
