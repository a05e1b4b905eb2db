"""F9, F11 and quarantine: what is wrong with one request, or one step, stays there."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_checks import COUNT, TOKENS, outcomes, report, wrong
from fault_streams import Seen, Streams
from octavo_server import Server

Start = Callable[..., Server]
HOOKS = Path(__file__).parents[1] / "support" / "faults"
CURSED = {"prompt": "A cursed request.", "max_tokens": 47, "ignore_eos": True, "temperature": 0}


@pytest.fixture
def faulty(start: Start) -> Start:
    path = os.pathsep.join([str(HOOKS), *filter(None, [os.environ.get("PYTHONPATH")])])

    def make(fault: str, **options: Any) -> Server:
        return start(env={"PYTHONPATH": path, "OCTAVO_TEST_FAULT": fault}, **options)

    return make


class Curse:
    """A cursed request beside streams, and how it was answered."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.status = 0
        self.body: Any = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.status, body = self._server.request("POST", "/v1/completions", CURSED, timeout=120)
        self.body = json.loads(body)

    def __call__(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(120)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("memory", 503, "out_of_memory"), ("raise", 500, "request_quarantined")],
)
def test_f9_a_request_that_fails_alone(
    faulty: Start, reference: list[Seen], fault: str, status: int, code: str
) -> None:
    """The others see a pause. No process ends."""
    server = faulty(fault, tracebacks=fault == "raise")
    children, curse = server.children(), Curse(server)
    streams = Streams(server.url, COUNT, TOKENS)
    seen = streams.run(curse, at=0.3)
    curse.join()
    assert (curse.status, curse.body["error"]["code"]) == (status, code), curse.body
    report(f"F9-{fault}-gap-s", round(streams.longest_gap, 2), 10, timed=True)
    assert outcomes(seen) == outcomes(reference)
    assert server.children() == children
    assert server.metric("octavo:failed_steps_total") >= 1


def test_f9_one_step_out_of_memory_fails_nobody(faulty: Start, reference: list[Seen]) -> None:
    server = faulty("memory-once")
    seen = Streams(server.url, COUNT, TOKENS).run()
    report("F9-once-wrong", wrong(seen, reference), 0)
    assert server.metric("octavo:failed_steps_total") == 1


def test_f11_nan_ends_its_row_alone(faulty: Start, reference: list[Seen]) -> None:
    server = faulty("nan")
    curse = Curse(server)
    seen = Streams(server.url, COUNT, TOKENS).run(curse, at=0.3)
    curse.join()
    assert curse.status == 500 and curse.body["error"]["code"] == "numerical_error"
    report("F11-wrong", wrong(seen, reference), 0)
    again = server.post("/v1/completions", {**CURSED, "max_tokens": 46})
    assert again["usage"]["completion_tokens"] == 46
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 0, "nothing of it is reused"


def test_a_request_that_kills_is_quarantined(faulty: Start, reference: list[Seen]) -> None:
    server = faulty("die")
    curse = Curse(server)
    streams = Streams(server.url, COUNT, TOKENS)
    seen = streams.run(curse, at=0.3)
    curse.join()
    assert curse.status == 500 and curse.body["error"]["code"] == "request_quarantined"
    deaths = sum("worker-0 was killed" in line for line in server.lines)
    report("quarantine-deaths", deaths, 5)
    assert outcomes(seen) == outcomes(reference)
