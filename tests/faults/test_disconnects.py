"""F12, F13: clients that leave, in every way and at every time, and clients that do not read."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_checks import TOKENS, Footprint, outcomes, report
from fault_streams import Seen, Streams
from octavo_server import Server, wait_for

Start = Callable[..., Server]
BAD, GOOD = 64, 16
LINGER = struct.pack("ii", 1, 0)
"""To close with it is to send RST."""


def request(number: int, prompt_tokens: int, **fields: object) -> bytes:
    body = {
        "prompt": [10 + number % 50] * prompt_tokens,
        "max_tokens": 1500,
        "ignore_eos": True,
        "stream": True,
        **fields,
    }
    data = json.dumps(body).encode()
    return b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
        len(data),
        data,
    )


def fin(client: socket.socket) -> None:
    client.close()


def rst(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    client.close()


def half_close(client: socket.socket) -> None:
    """As some proxies: nothing more will be asked; whoever reads on is no more either."""
    client.shutdown(socket.SHUT_WR)


LEAVE = (fin, rst, half_close)


@contextmanager
def clients(server: Server, when: str) -> Iterator[list[socket.socket]]:
    """BAD of them, each so far: `body`: half of it is sent; `prefill`: all of it; `stream`: the
    first bytes have come."""
    made = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(BAD)]
    for number, client in enumerate(made):
        data = request(number, 300 if when == "prefill" else 5)
        client.sendall(data[: len(data) // 2] if when == "body" else data)
    for client in made if when == "stream" else ():
        client.recv(64)
    yield made
    for client in made:
        client.close()


@pytest.mark.parametrize("when", ["body", "prefill", "stream"])
def test_f12_they_leave(start: Start, reference: list[Seen], when: str) -> None:
    """Those who stay get what they would alone; nothing is computed for those who left."""
    server = start()
    before = Footprint(server)
    good = Streams(server.url, GOOD, TOKENS)
    seen: list[Seen] = []
    runner = threading.Thread(target=lambda: seen.extend(good.run()))
    runner.start()
    with clients(server, when) as gone:
        for number, client in enumerate(gone):
            LEAVE[number % 3](client)
        left = time.monotonic()
        computed = server.metric("vllm:generation_tokens_total")
        runner.join()
        server.wait_idle(1)
        extra = server.metric("vllm:generation_tokens_total") - computed
        report(f"F12 {when}", round(time.monotonic() - left, 2), "1 s after the good", BAD)
    assert outcomes(seen) == outcomes(reference[:GOOD])
    # The good ones' tokens are among them; one that stayed by mistake would make 1500.
    assert extra <= GOOD * TOKENS + 2 * BAD
    before.check()


def test_f12_they_leave_the_queue(start: Start) -> None:
    """One slot, and somebody in it: all others wait."""
    server = start("--max-num-seqs", "1")
    before = Footprint(server)
    with clients(server, "queue") as gone:
        wait_for(lambda: server.metric("vllm:num_requests_waiting") >= BAD - 1, 10)
        for number, client in enumerate(gone):
            LEAVE[number % 3](client)
        left = time.monotonic()
        server.wait_idle(2)
        report("F12 queue", round(time.monotonic() - left, 2), 1.0, BAD)
    before.check()


def resident(server: Server) -> int:
    """Bytes of the frontend."""
    status = Path(f"/proc/{server.children()['frontend-0']}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) << 10


@pytest.mark.slow
def test_f13_they_do_not_read(start: Start, reference: list[Seen]) -> None:
    """32 whose answers fill what the kernel holds are cut off after a minute; others feel none."""
    server = start()
    before = Footprint(server)
    Streams(server.url, GOOD, TOKENS).run()
    memory, began = resident(server), time.monotonic()
    stalled = [stall(server, number) for number in range(32)]
    seen = Streams(server.url, GOOD, TOKENS).run()
    # Their tokens are computed all the same, until each is found to have stalled.
    wait_for(lambda: server.metric("vllm:num_requests_running") == 0, 200)
    most = resident(server) - memory
    wait_for(lambda: all(cut_off(client) for client in stalled), 90)
    report("F13 memory", round(most / 2**20), 64)
    report("F13 seconds", round(time.monotonic() - began), 150)
    assert most <= 64 << 20
    assert outcomes(seen) == outcomes(reference[:GOOD])
    for client in stalled:
        client.close()
    before.check()


def stall(server: Server, number: int) -> socket.socket:
    """Asks for some megabytes of events and reads none."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(request(number, 5, logprobs=5))
    return client


def cut_off(client: socket.socket) -> bool:
    """Whether the server has given the connection up: what is unread goes with a reset."""
    established = 1
    state = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != established
