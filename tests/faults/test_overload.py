"""F14, F15: clients that never finish asking, and ten times as many as there is room for."""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections.abc import Callable

import pytest
from fault_checks import TOKENS, percentile, report
from fault_streams import Streams
from floods import LOWEST, Answers, at_rate, elsewhere
from octavo_server import Server

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
WARM_UP = 5.0
"""Seconds."""
ENOUGH = 50.0
"""Requests a second, to begin with."""


def test_f15_ten_times_too_many(start: Start) -> None:
    """Refused at once, and told when to come again. The others are served at the usual rate, and
    the server is as it was soon after."""
    server = start("--max-num-seqs", str(SLOTS), "--max-queued-requests", str(AT_ONCE))
    usual = percentile(ttfts(server, 10), 0.5)
    with elsewhere(LOWEST) as pool:

        def serve(rate: float, seconds: float) -> Answers:
            return pool.submit(at_rate, server.port, TOKENS, rate, seconds).result()

        rate = ENOUGH
        while not (taken := serve(rate, 10)).refused:
            rate *= 2
        capacity = serve(2 * taken.per_second(WARM_UP), 45).per_second(WARM_UP)
        load = serve(10 * capacity, 60)
    goodput = load.per_second(WARM_UP) / capacity
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
    figures("F15-goodput", round(goodput, 2), 0.95, at_least=True)
