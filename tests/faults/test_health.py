"""F28: health tells the truth, through deaths and under load; and the states that it is told in."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_checks import FLAGS, TOKENS, Footprint, report, wrong
from fault_streams import Seen, Streams
from health_sampler import Sampler
from octavo_server import Server, wait_for

Start = Callable[..., Server]
LIMIT = 2.0
"""Seconds from the loss of progress to the first 503."""
HANG_TIMEOUT = 3.0


def test_f28_health_turns_with_progress(start: Start) -> None:
    """Long before a process that hangs is killed."""
    server = start("--hang-timeout", "4")
    for victim in ("worker-0", "scheduler-0"):
        for number in (signal.SIGKILL, signal.SIGSTOP):
            check_turns(server, victim, number)


def check_turns(server: Server, victim: str, number: signal.Signals) -> None:
    """A 503 soon after a process dies or hangs, and 200 once it is over."""
    with Sampler(server) as sampler:
        died: list[float] = []

        def fault() -> None:
            died.append(time.monotonic())
            os.kill(server.children()[victim], number)

        Streams(server.url, 8, TOKENS).run(fault)
        server.wait_idle()
        time.sleep(0.3)
    late = sampler.first(503, died[0])
    report(f"F28-{victim}-{number.name}-s", round(late, 2), LIMIT, streams=8, timed=True)
    assert sampler.samples[-1][1] == 200
    assert {live for _, _, live in sampler.samples} == {200}


def test_only_a_supervisor_that_hangs_is_not_alive(start: Start, reference: list[Seen]) -> None:
    """What it does not look after goes on."""
    server = start("--hang-timeout", str(HANG_TIMEOUT))

    def is_live() -> bool:
        return server.request("GET", "/health/live")[0] == 200

    os.kill(server.process.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        wait_for(lambda: not is_live(), 4 * (HANG_TIMEOUT + LIMIT))
        seconds = time.monotonic() - stopped
        told = json.loads(server.request("GET", "/health/live")[1])["error"]
        seen = Streams(server.url, 2, TOKENS).run()
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    limit = HANG_TIMEOUT + LIMIT
    report("hung-supervisor-s", round(seconds, 2), limit, streams=2, timed=True)
    report("hung-supervisor-wrong", wrong(seen, reference), 0, streams=2)
    wait_for(is_live, 10)
    assert told["message"] and told["code"] == "unsupervised"


def test_what_a_load_balancer_sees_of_a_start() -> None:
    """The port answers that it is not ready, and when it is."""
    server = Server(*FLAGS)
    try:
        wait_for(lambda: "worker-0" in server.children(), 20)
        worker = server.children()["worker-0"]
        os.kill(worker, signal.SIGSTOP)
        wait_for(lambda: probe(server) == 503, 20)
        for path in ("/health", "/v1/models", "/v1/completions"):
            status, body = server.request("GET", path)
            assert status == 503 and json.loads(body)["error"]["code"] in STARTING
        status, body = server.request("GET", "/health/live")
        assert status == 200 and json.loads(body)["state"] in STARTING
        os.kill(worker, signal.SIGCONT)
        seen = [probe(server)]
        while seen[-1] != 200:
            assert not any(line.startswith("Ready in") for line in server.lines)
            time.sleep(0.02)
            seen.append(probe(server))
        assert set(seen) == {503, 200}
        server.wait_ready()
        assert server.post("/v1/completions", {"prompt": "a", "max_tokens": 2})["usage"]
    finally:
        assert server.stop() == 0


STARTING = ("starting", "loading", "warming")


def probe(server: Server) -> int | None:
    """The status of /health/ready; None: nobody answers."""
    try:
        return server.request("GET", "/health/ready")[0]
    except OSError:
        return None


def test_f6_a_worker_that_dies_at_the_first_start() -> None:
    """Whoever asks hears that the server is not ready, until it has given up."""
    server, began = Server(*FLAGS), time.monotonic()
    seen: list[int | None] = []
    killed: set[int] = set()
    wait_for(lambda: probe(server) == 503, 20)
    while server.process.poll() is None and time.monotonic() - began < 90:
        worker = server.children().get("worker-0")
        if worker is not None and worker not in killed:
            killed.add(worker)
            os.kill(worker, signal.SIGKILL)
        seen.append(probe(server))
    seconds = time.monotonic() - began
    assert server.stop() == 70
    report("F6 first start", len(killed), 6)
    assert len(killed) == 6
    report("F6-first-start-exit-s", round(seconds, 1), 60, streams=0, timed=True)
    while seen[-1] is None:  # it has closed its port, and is about to end
        seen.pop()
    assert set(seen) == {503}


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_f28_load_is_not_ill_health(start: Start, seconds: int) -> None:
    """Long prompts one after another, with all slots taken."""
    server = start("--max-num-seqs", "8")
    long = {"prompt": list(range(300, 1200)), "max_tokens": 8, "ignore_eos": True}
    deadline = time.monotonic() + seconds

    def ask(number: int) -> None:
        while time.monotonic() < deadline:
            body = {**long, "cache_salt": f"{number} {time.monotonic()}"}
            assert server.request("POST", "/v1/completions", body)[0] == 200

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    with Sampler(server) as sampler:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(sampler.samples) > 20
    ill = sum(ready != 200 for _, ready, _ in sampler.samples)
    report("F28-false-503", ill, 0, streams=16)


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
    ready_again = ["STATUS=degrade", "STATUS=Ready i"]
    assert kinds == ["STATUS=startin", "READY=1", *ready_again, "STOPPING=1"], said
