"""F14, F15: clients that never finish asking, and ten times as many as there is room for."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fault_checks import TOKENS, percentile, report
from fault_streams import Streams, body_of
from octavo_server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
Start = Callable[..., Server]
IDLE, HALF_HEADERS, HALF_BODIES = 500, 500, 200
WHOLE = {"stream": False, "stream_options": None}
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
HALF = b'Content-Length: 100\r\n\r\n{"prompt": '
ANSWERED = b"GET /health HTTP/1.1\r\nHost: x\r\n" + HALF
"""Without waiting for a body that does not end."""


def slow_clients(server: Server) -> list[socket.socket]:
    parts = [b""] * IDLE + [HEAD] * HALF_HEADERS
    parts += [HEAD + HALF, ANSWERED] * (HALF_BODIES // 2)
    made = []
    for part in parts:
        client = socket.create_connection(("127.0.0.1", server.port), 30)
        client.sendall(part)
        client.settimeout(60)
        made.append(client)
    return made


def drip(clients: list[socket.socket]) -> None:
    """A space a second to each, until the server has closed all."""
    left = clients
    while left:
        left = [client for client in left if _takes(client)]
        time.sleep(1)


def _takes(client: socket.socket) -> bool:
    try:
        client.sendall(b" ")
    except OSError:
        return False
    return True


def ttfts(server: Server, rounds: int) -> list[float]:
    """Seconds to the first token of 4 streams at a time."""
    found = []
    for _ in range(rounds):
        streams = Streams(server.url, 4, 8)
        streams.run()
        found += [one.first for one in streams.seen]
    return found


def test_f14_slowloris(start: Start) -> None:
    """They are cut off after 10 s (headers), answered 400 after 30 s (bodies), and closed 5 s after
    their answer, though bytes of theirs come all the time."""
    server = start()
    ttfts(server, 3)
    alone = percentile(ttfts(server, 25), 0.99)
    began = time.monotonic()
    clients = slow_clients(server)
    beside = percentile(ttfts(server, 25), 0.99)
    ratio = round(beside / alone, 2)
    report("F14-p99-ttft", ratio, 1.5, streams=len(clients), timed=True)
    last = [client.recv(99) for client in clients[: IDLE + HALF_HEADERS]]
    # What a busy machine takes longer for is to connect so many.
    report("F14-headers-s", round(time.monotonic() - began, 1), 15, timed=True)
    bodies = clients[IDLE + HALF_HEADERS :]
    dripping = threading.Thread(target=drip, args=(bodies,))
    dripping.start()
    answers = [client.recv(4096) for client in bodies]
    report("F14-bodies-s", round(time.monotonic() - began, 1), 35, timed=True)
    dripping.join(60)
    report("F14-closed-s", round(time.monotonic() - began, 1), 40, timed=True)
    assert not any(last) and not dripping.is_alive()
    assert all(b" 400 " in answer for answer in answers[::2])
    assert all(b" 200 " in answer for answer in answers[1::2])
    for client in clients:
        client.close()


SLOTS, AT_ONCE = 16, 32
"""Requests that run, and those that are taken in."""
REQUESTS = [
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    % (len(body), body)
    for body in (json.dumps(body_of(number, TOKENS) | WHOLE).encode() for number in range(32))
]


class Load:
    """Requests that cost their client next to nothing: it shares the machine with the server."""

    def __init__(self, server: Server) -> None:
        self._port = server.port
        self.accepted: list[float] = []
        """Seconds that answers took."""
        self.refused: list[float] = []
        self.odd: list[bytes] = []
        self.retry_after: list[int] = []
        self.over = 0.0
        """When the last was sent."""

    async def at_rate(self, rate: float, seconds: float) -> None:
        """Whatever becomes of them."""
        began, tasks = time.monotonic(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(self._one(number)))
        self.over = time.monotonic()
        await asyncio.gather(*tasks)

    async def of_clients(self, clients: int, seconds: float) -> None:
        """Each with one after another."""
        until = time.monotonic() + seconds

        async def client(number: int) -> None:
            while time.monotonic() < until:
                await self._one(number)

        await asyncio.gather(*(client(number) for number in range(clients)))

    async def _one(self, number: int) -> None:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(REQUESTS[number % len(REQUESTS)])
        answer = await reader.read()
        took = time.monotonic() - began
        writer.close()
        match answer[9:12]:
            case b"200":
                self.accepted.append(took)
            case b"503":
                self.refused.append(took)
                found = re.search(rb"\r\nretry-after: (\d+)\r\n", answer)
                self.retry_after.append(int(found[1]) if found else 0)
            case _:
                self.odd.append(answer)


def beside(load: Coroutine[Any, Any, None]) -> None:
    """Run it with the processor time that the server leaves, as if it came from elsewhere."""

    def run() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        asyncio.run(load)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


def capacity_of(server: Server) -> float:
    """Requests a second that it serves when it always has some."""
    load = Load(server)
    beside(load.of_clients(AT_ONCE, 3))
    load.accepted.clear()
    began = time.monotonic()
    beside(load.of_clients(AT_ONCE, 15))
    return len(load.accepted) / (time.monotonic() - began)


def test_f15_ten_times_too_many(start: Start) -> None:
    """Refused at once, and told when to come again. The others are served at the usual rate, and
    the server is as it was soon after."""
    server = start("--max-num-seqs", str(SLOTS), "--max-queued-requests", str(AT_ONCE))
    usual = percentile(ttfts(server, 10), 0.5)
    capacity = capacity_of(server)
    load = Load(server)
    began = time.monotonic()
    beside(load.at_rate(10 * capacity, 60))
    goodput = len(load.accepted) / (time.monotonic() - began) / capacity
    while percentile(ttfts(server, 1), 0.5) > 1.5 * usual:
        assert time.monotonic() < load.over + 60
    after = time.monotonic() - load.over
    assert not load.odd and load.refused and load.accepted
    assert all(1 <= seconds <= 60 for seconds in load.retry_after)
    figures = functools.partial(report, streams=SLOTS, timed=True)
    report("F15-capacity-per-s", round(capacity, 1), streams=SLOTS)
    report("F15-refused", len(load.refused), streams=SLOTS)
    figures("F15-refusal-p99-ms", round(1e3 * percentile(load.refused, 0.99)), 50)
    figures("F15-accepted-p99-s", round(percentile(load.accepted, 0.99), 2), 2 * AT_ONCE / capacity)
    figures("F15-normal-after-s", round(after, 2), 5)
    figures("F15-goodput", round(goodput, 2), ">=0.95", passed=goodput >= 0.95)
