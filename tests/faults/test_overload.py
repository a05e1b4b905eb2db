"""F14, F15: clients that never finish asking, and ten times as many as there is room for."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from fault_checks import TOKENS, Footprint, outcomes, report
from fault_streams import CONNECTIONS, Seen, Streams, body_of
from octavo_server import Server
from soak_load import percentile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
Start = Callable[..., Server]
IDLE, HALF_HEADERS, HALF_BODIES = 500, 500, 200
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


def test_f14_slowloris(start: Start, reference: list[Seen]) -> None:
    """They are cut off after 10 s (headers), answered 400 after 30 s (bodies), and closed 5 s after
    their answer, though bytes of theirs come all the time."""
    server = start()
    ttfts(server, 3)
    alone = percentile(ttfts(server, 25), 0.99)
    began = time.monotonic()
    clients = slow_clients(server)
    beside = percentile(ttfts(server, 25), 0.99)
    report("F14 p99 TTFT", f"{alone:.3f} {beside:.3f}", "1.5x", len(clients))
    last = [client.recv(99) for client in clients[: IDLE + HALF_HEADERS]]
    report("F14 headers", round(time.monotonic() - began, 1), 10)
    bodies = clients[IDLE + HALF_HEADERS :]
    dripping = threading.Thread(target=drip, args=(bodies,))
    dripping.start()
    answers = [client.recv(4096) for client in bodies]
    report("F14 bodies", round(time.monotonic() - began, 1), 30)
    dripping.join(60)
    report("F14 closed", round(time.monotonic() - began, 1), 35)
    assert not any(last) and not dripping.is_alive()
    assert all(b" 400 " in answer for answer in answers[::2])
    assert all(b" 200 " in answer for answer in answers[1::2])
    assert time.monotonic() - began < 50
    for client in clients:
        client.close()
    assert outcomes(Streams(server.url, 16, TOKENS).run()) == outcomes(reference[:16])
    server.wait_idle()


def whole(number: int) -> dict[str, object]:
    body = body_of(number, TOKENS) | {"stream": False}
    del body["stream_options"]
    return body


class OpenLoop:
    """Requests at a rate, whatever becomes of them."""

    def __init__(self, server: Server, rate: float, seconds: float) -> None:
        self._url = f"{server.url}/v1/completions"
        self._rate, self._seconds = rate, seconds
        self.accepted: list[float] = []
        """Seconds that answers took."""
        self.refused: list[float] = []
        self.odd: list[str] = []
        self.retry_after: set[str] = set()

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=120, limits=CONNECTIONS) as client:
            began, tasks = time.monotonic(), []
            for number in range(int(self._rate * self._seconds)):
                await asyncio.sleep(max(0.0, began + number / self._rate - time.monotonic()))
                tasks.append(asyncio.create_task(self._one(client, number)))
            await asyncio.gather(*tasks)

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        began = time.monotonic()
        try:
            answer = await client.post(self._url, json=whole(number))
        except httpx.HTTPError as error:
            self.odd.append(repr(error))
            return
        took = time.monotonic() - began
        if answer.status_code == 200:
            self.accepted.append(took)
        elif answer.status_code == 503:
            self.refused.append(took)
            self.retry_after.add(answer.headers["retry-after"])
        else:
            self.odd.append(answer.text)


def test_f15_ten_times_too_many(start: Start, reference: list[Seen]) -> None:
    server = start("--max-num-seqs", "16", "--max-queued-requests", "32")
    before = Footprint(server)
    closed = time.monotonic()
    for _ in range(4):
        Streams(server.url, 16, TOKENS).run()
    capacity = 64 / (time.monotonic() - closed)
    load = OpenLoop(server, 10 * capacity, 60)
    began = time.monotonic()
    load.run()
    goodput = len(load.accepted) / (time.monotonic() - began) / capacity
    report("F15 capacity/s", round(capacity, 1), "", 16)
    report("F15 answers", f"{len(load.accepted)} given, {len(load.refused)} refused", "all", 16)
    report("F15 refusal p50 p99 ms", [round(1e3 * percentile(load.refused, q)) for q in Q], 50, 16)
    report("F15 accepted p99 s", round(percentile(load.accepted, 0.99), 2), "", 16)
    report("F15 goodput", round(goodput, 2), 0.95, 16)
    assert not load.odd and load.refused and load.accepted and all(load.retry_after)
    server.wait_idle(30)
    again = Streams(server.url, 16, TOKENS)
    assert outcomes(again.run()) == outcomes(reference[:16])
    before.check()


Q = (0.5, 0.99)
