"""F16, F18, F27 and rolling restarts: stops, and replacements that nobody notices."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fault_checks import COUNT, FLAGS, TOKENS, outcomes, report
from fault_streams import Seen, Streams
from octavo_server import Server, alive, wait_for

Start = Callable[..., Server]
SUPPORT = Path(__file__).parent.parent / "support"
FAULTS_PATH = os.pathsep.join([str(SUPPORT / "faults"), os.environ.get("PYTHONPATH", "")])


def admin(server: Server, command: str) -> Any:
    argv = [sys.executable, "-P", "-m", "octavo.services.launch", "admin", command]
    done = subprocess.run(
        [*argv, "--port", str(server.port)], capture_output=True, text=True, timeout=20, check=True
    )
    return json.loads(done.stdout)


class Oversleep:
    """How late this machine, with all that runs on it, lets somebody run who is to: the slack of
    limits in milliseconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            time.sleep(0.001)
            self.seconds = max(self.seconds, time.monotonic() - began - 0.001)

    def __enter__(self) -> Oversleep:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()


def seconds_to_503(server: Server) -> float:
    """From SIGTERM to the beginning of the first probe that says so, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.connect()
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    for _ in range(10_000):
        asked = time.monotonic()
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        answer.read()
        if answer.status == 503:
            connection.close()
            return asked - began
    raise TimeoutError("it stays ready")


def test_f16_sigterm_lets_streams_finish(start: Start, reference: list[Seen]) -> None:
    server = start()
    streams = Streams(server.url, COUNT, TOKENS)
    seconds: list[float] = []
    statuses: list[int] = []

    def fault() -> None:
        with Oversleep() as late:
            seconds.extend([seconds_to_503(server), late.seconds])
        statuses.append(server.request("POST", "/v1/completions", {"prompt": "a"})[0])

    seen = streams.run(fault, at=0.3)
    assert outcomes(seen) == outcomes(reference)
    assert server.process.wait(10) == 0
    took, late = seconds
    # It takes the supervisor, the frontend and us a turn each.
    report("F16-unready-s", round(took - 3 * late, 3), 0.1, timed=True)
    assert statuses == [503]


def test_f16_what_does_not_fit_ends_with_an_event(start: Start) -> None:
    server = start("--shutdown-timeout", "1")
    streams = Streams(server.url, 4, 1900)
    began: list[float] = []

    def fault() -> None:
        began.append(time.monotonic())
        server.process.send_signal(signal.SIGTERM)

    seen = streams.run(fault, at=0.02)
    assert server.process.wait(10) == 0
    report("F16-exit-s", round(time.monotonic() - began[0], 2), 1 + 5, streams=4, timed=True)
    assert [one.error for one in seen] == ["engine_dead"] * 4
    assert not any(one.done for one in seen)


def test_f16_a_worker_dies_while_streams_finish(start: Start, reference: list[Seen]) -> None:
    server = start("--shutdown-timeout", "100")
    streams = Streams(server.url, COUNT, TOKENS)

    def fault() -> None:
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.request("GET", "/health")[0] == 503, 2)
        os.kill(server.children()["worker-0"], signal.SIGKILL)

    seen = streams.run(fault, at=0.3)
    report("F16-death-gap-s", round(streams.longest_gap, 2), 5, timed=True)
    assert outcomes(seen) == outcomes(reference)
    assert server.process.wait(10) == 0


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGTERM] * 2])
def test_f18_a_stop_while_loading(numbers: list[signal.Signals]) -> None:
    server = Server(*FLAGS)
    wait_for(lambda: len(server.children()) == 3, 20)
    children = server.children()
    began = time.monotonic()
    for number in numbers:
        server.process.send_signal(number)
    assert server.process.wait(10) == 0
    report("F18-exit-s", round(time.monotonic() - began, 2), 5, streams=0, timed=True)
    assert not any(alive(pid) for pid in children.values())


def test_f18_a_stop_while_warming_up() -> None:
    """In the middle of a step, as where kernels are compiled and graphs captured."""
    server = Server(*FLAGS, env={"PYTHONPATH": FAULTS_PATH, "OCTAVO_TEST_FAULT": "warm-up"})
    wait_for(lambda: "warming up" in server.lines, 60)
    children = server.children()
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    report("F18 warm-up", round(time.monotonic() - began, 2), 5)
    assert time.monotonic() - began <= 5
    assert len(children) == 3 and not any(alive(pid) for pid in children.values())


def test_a_second_sigterm_does_not_wait(start: Start) -> None:
    server = start()
    streams = Streams(server.url, 2, 1900)

    def fault() -> None:
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.request("GET", "/health")[0] == 503, 2)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 0
        report("second-sigterm-s", round(time.monotonic() - began, 2), 5, streams=2, timed=True)

    streams.run(fault, at=0.02)


def test_frontends_are_replaced_under_load(start: Start, reference: list[Seen]) -> None:
    """The port is never closed: no connection is refused, no stream breaks."""
    server = start("--frontends", "2")
    old = server.children()
    failed: list[str] = []
    over = threading.Event()

    def short_requests() -> None:
        while not over.is_set():
            try:
                answer = httpx.get(f"{server.url}/v1/models", timeout=10)
                failed.extend([answer.text] * (answer.status_code != 200))
            except httpx.HTTPError as error:
                failed.append(repr(error))

    thread = threading.Thread(target=short_requests)
    thread.start()
    streams = Streams(server.url, COUNT, TOKENS)
    seen = streams.run(lambda: admin(server, "restart-frontends"), at=0.3)
    wait_for(lambda: not any(alive(old[name]) for name in ("frontend-0", "frontend-1")), 20)
    over.set()
    thread.join()
    report("frontends-replaced-failures", len(failed), 0)
    assert outcomes(seen) == outcomes(reference)
    assert admin(server, "status")["restarts"] == 0


def test_the_admin_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "admin"
    server = start("--admin-socket", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    send_garbage(path)
    assert server.request("GET", "/health")[0] == 200
    argv = [sys.executable, "-P", "-m", "octavo.services.launch", "admin"]
    asked = [*argv, "status", "--socket", str(path)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    status = json.loads(done.stdout)
    assert status["state"] == "ready" and status["restarts"] == 0
    children = server.children()
    assert {one["name"]: one["pid"] for one in status["processes"]} == children
    subprocess.run([*argv, "restart-workers", "--socket", str(path)], timeout=20, check=True)
    wait_for(lambda: server.children().get("worker-0") not in (None, children["worker-0"]), 20)
    wait_for(lambda: server.request("GET", "/health")[0] == 200, 20)
    assert server.post("/v1/completions", {"prompt": "a", "max_tokens": 2})["usage"]
    changed = {name for name, pid in server.children().items() if children[name] != pid}
    assert changed == {"worker-0"}
    subprocess.run([*argv, "drain", "--socket", str(path)], timeout=20, check=True)
    assert server.process.wait(20) == 0
    assert not path.exists()
    done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and done.stderr == f"octavo: error: no server answers at {path}\n"


def send_garbage(path: Path) -> None:
    """It is told that it is no command."""
    for data in (b"", b"\n", b"{}\n", b'{"command": "exec"}\n', os.urandom(5000), b"[" * 4000):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            assert b"unknown command" in connection.recv(4096)
