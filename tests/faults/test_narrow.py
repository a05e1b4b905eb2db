"""F20, F21: a system that gives little, and clocks that jump."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from fault_checks import COUNT, TOKENS, outcomes, report
from fault_streams import Seen, Streams
from octavo_server import Server

pytestmark = pytest.mark.slow
Start = Callable[..., Server]
FAULTS_PATH = os.pathsep.join(
    [str(Path(__file__).parent.parent / "support" / "faults"), os.environ.get("PYTHONPATH", "")]
)


def test_f20_few_descriptors(start: Start, reference: list[Seen]) -> None:
    """256, and 400 connections: those over the limit wait or are refused; the server goes on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256 if os.getuid() else hard))
    try:
        server = start()
        for pid in (server.process.pid, *server.children().values()):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (256, 256))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    clients = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(400)]
    time.sleep(1)
    for client in clients:
        client.close()
    assert server.process.poll() is None and len(server.children()) == 3
    seen = Streams(server.url, 16, TOKENS).run()
    report("F20 descriptors", sum(not one.done for one in seen), 0, 16)
    assert outcomes(seen) == outcomes(reference[:16])


def test_f21_the_clock_jumps(start: Start, reference: list[Seen], tmp_path: Path) -> None:
    """An hour ahead while streams run, then an hour back; no timeout fires."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    server = start(env={"PYTHONPATH": FAULTS_PATH, "OCTAVO_TEST_CLOCK": str(clock)})
    for step in (3600, -3600):
        streams = Streams(server.url, COUNT, TOKENS)
        seen = streams.run(partial(clock.write_text, str(step)))
        report(f"F21 {step:+}", sum(not one.done for one in seen), 0)
        assert outcomes(seen) == outcomes(reference)
        created = server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})["created"]
        assert abs(created - time.time() - step) < 60
    assert not any("again" in line for line in server.lines), server.lines
