"""The exporter as a process: what it answers when, its limits, and its end."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from front_process import HttpProcess, ScriptedScheduler, process_config

from octavo.shared.process import Condition

Exporting = tuple[HttpProcess, ScriptedScheduler, Path]


@pytest.fixture
def exporting() -> Iterator[Exporting]:
    """One that has not been told that the engine is ready."""
    with tempfile.TemporaryDirectory() as name:  # a short path: ipc addresses are limited
        folder = Path(name)
        scheduler = ScriptedScheduler(folder, [])
        scheduler.start()
        child = HttpProcess(process_config("exporter", folder, folder, 8))
        yield child, scheduler, folder
        child.close()
        scheduler.stop()


@pytest.fixture
def ready(exporting: Exporting) -> Exporting:
    child, _, _ = exporting
    child.tell(Condition("ready"))
    assert child.wait_ready().state == "ready"
    return exporting


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_before_the_engine_is_there(exporting: Exporting) -> None:
    child, scheduler, _ = exporting
    assert httpx.get(f"{child.url}/health", timeout=20).json()["state"] == "starting"
    child.tell(Condition("loading", "loading weights 45 %"))
    until(lambda: httpx.get(f"{child.url}/health/live").json()["state"] == "loading")
    for path in ("/health", "/health/ready", "/metrics"):
        answer = httpx.get(f"{child.url}{path}")
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert answer.json()["error"]["code"] == "loading"
    assert not scheduler.queries
    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(10) == 0


def test_to_the_end_it_counts(ready: Exporting) -> None:
    child, scheduler, _ = ready
    with httpx.Client(base_url=child.url) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/metrics").content == b"a page"
        child.tell(Condition("draining"))
        until(lambda: client.get("/health").status_code == 503)
        assert client.get("/health/ready").json()["state"] == "draining"
        assert client.get("/health/live").status_code == 200
        assert client.get("/metrics").content == b"a page"
        child.process.send_signal(signal.SIGTERM)
        assert child.process.wait(10) == 0
    assert not scheduler.submits


def test_another_scheduler_is_asked_again(ready: Exporting) -> None:
    """What the last one died over is answered as if nothing had been."""
    child, scheduler, folder = ready
    scheduler.page = None
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(httpx.get, f"{child.url}/metrics")
        until(lambda: len(scheduler.queries) == 1)
        scheduler.stop()
        later = ScriptedScheduler(folder, [], epoch=2)
        later.page = b"another page"
        later.start()
        assert asked.result(10).content == b"another page"
        later.stop()


def test_nothing_else_is_there_and_limits_hold(ready: Exporting) -> None:
    child, _, _ = ready
    for path in ("/", "/metrics/", "/v1/models", "/ui", "/load", "/openapi.json"):
        assert httpx.get(f"{child.url}{path}").status_code == 404
    assert httpx.post(f"{child.url}/metrics").status_code == 405
    with socket.create_connection(("127.0.0.1", child.port), timeout=20) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n")
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def test_it_imports_nothing_that_reads_texts() -> None:
    heavy = ("torch", "transformers", "triton", "tokenizers", "llguidance", "jinja2")
    code = (
        "import sys, octavo.services.exporter.__main__\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
