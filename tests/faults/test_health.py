"""F28: health tells the truth, through deaths and under load; and the states that it is told in."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_checks import FLAGS, TOKENS, Footprint, report
from fault_streams import Seen, Streams
from octavo_server import Server, wait_for

Start = Callable[..., Server]
LIMIT = 2.0
"""Seconds from the loss of progress to the first 503."""


class Sampler:
    """/health and /health/live ten times a second: (time, statuses)."""

    def __init__(self, server: Server) -> None:
        self.samples: list[tuple[float, int, int]] = []
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.1):
            ready, live = (self._server.request("GET", path)[0] for path in PATHS)
            self.samples.append((time.monotonic(), ready, live))

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def first(self, status: int, after: float) -> float:
        """Seconds from `after` until the first such answer."""
        return (
            next(when for when, ready, _ in self.samples if when > after and ready == status)
            - after
        )


PATHS = ("/health/ready", "/health/live")


@pytest.mark.parametrize(("victim", "number"), [("worker-0", 9), ("worker-0", 19)])
def test_f28_health_turns_with_progress(start: Start, victim: str, number: int) -> None:
    """Killed, or stopped: a stopped worker is noticed by its silence."""
    server = start("--hang-timeout", "3")
    with Sampler(server) as sampler:
        died: list[float] = []

        def fault() -> None:
            died.append(time.monotonic())
            os.kill(server.children()[victim], number)

        Streams(server.url, 8, TOKENS).run(fault)
        server.wait_idle()
        time.sleep(0.3)
    hang = 3.0 if number == signal.SIGSTOP else 0.0
    late = sampler.first(503, died[0])
    report(f"F28-signal-{number}-s", round(late, 2), LIMIT + hang, streams=8, timed=True)
    assert sampler.samples[-1][1] == 200
    assert {live for _, _, live in sampler.samples} == {200}


def test_f28_load_is_not_ill_health(start: Start) -> None:
    """Long prompts one after another, with all slots taken."""
    server = start("--max-num-seqs", "8")
    long = {"prompt": list(range(300, 1200)), "max_tokens": 8, "ignore_eos": True}
    deadline = time.monotonic() + 8

    def ask(number: int) -> None:
        while time.monotonic() < deadline:
            body = {**long, "cache_salt": f"{number} {time.monotonic()}"}
            assert server.request("POST", "/v1/completions", body)[0] == 200

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    with Sampler(server) as sampler:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(sampler.samples) > 20
    ill = sum(ready != 200 for _, ready, _ in sampler.samples)
    report("F28-false-503", ill, 0, streams=24)


@contextmanager
def service_manager(path: Path) -> Iterator[list[str]]:
    """What systemd would be told."""
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(path))
        channel.settimeout(0.1)
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                try:
                    said.append(channel.recv(4096).decode())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        yield said
        over.set()
        thread.join()


def test_states_are_told_as_they_change(tmp_path: Path, reference: list[Seen]) -> None:
    with service_manager(tmp_path / "notify") as said:
        server = Server(*FLAGS, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        try:
            server.wait_ready()
            before = Footprint(server, reference)
            os.kill(server.children()["worker-0"], signal.SIGKILL)
            wait_for(lambda: any("STATUS=degraded: worker-0" in one for one in said), 10)
            assert server.request("GET", "/health/live")[0] == 200
            wait_for(lambda: sum("STATUS=Ready in" in one for one in said) == 2, 20)
            before.check()
        finally:
            assert server.stop() == 0
    told = [one for one in said if "WATCHDOG" not in one and "loading" not in one]
    kinds = [one.split("\n")[0][:14] for one in told]
    assert kinds == ["READY=1", "STATUS=degrade", "STATUS=Ready i", "STOPPING=1"], said
