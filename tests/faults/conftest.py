"""Servers to be hurt, and what the same requests gave on one that was not."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_checks import COUNT, FLAGS, TOKENS, Footprint, report, waived
from fault_streams import Seen, Streams
from health_sampler import Sampler
from octavo_server import Server, serving

FEW = 20
"""Answers in a second, for which a busy machine may stand."""


@pytest.fixture(scope="session")
def lasting(lasting_sockets: Path) -> Iterator[Server]:
    """The one that is not hurt."""
    environment = {"TMPDIR": str(lasting_sockets)}
    with serving(*FLAGS, "--served-model-name", "demo", env=environment) as server:
        yield server


@pytest.fixture(scope="session")
def lasting_sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        yield Path(temporary)


@pytest.fixture(scope="session")
def reference(lasting: Server) -> list[Seen]:
    """R of the acceptance figures."""
    seen = Streams(lasting.url, COUNT, TOKENS).run()
    assert all(one.done and len(one.ids) == TOKENS for one in seen), [one.error for one in seen]
    return seen


@pytest.fixture
def unhurt(lasting: Server, reference: list[Seen]) -> Iterator[Server]:
    """`lasting`, for tests of what no process dies of. It is well all the time, and each must leave
    it as it was."""
    before = Footprint(lasting, reference, told=len(lasting.output))
    children = lasting.children()
    with Sampler(lasting) as sampler:
        yield lasting
    report("F28-unhurt-false-503", sampler.unready, 0, timed=True, ceiling=FEW)
    before.check()
    assert lasting.children() == children


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if waived:
        terminalreporter.section("over their limit, waived on a busy machine")
    for line in waived:
        terminalreporter.line(line)
