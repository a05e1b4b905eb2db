"""F12, F13: clients that leave, in every way and at every time, and clients that do not read."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_checks import TOKENS, hooked, percentile, report, wrong
from fault_streams import Seen, Streams
from octavo_server import Server, wait_for

Start = Callable[..., Server]
BAD, GOOD, SLOW = 64, 16, 32
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
COMPUTED = "vllm:iteration_tokens_total_sum"
"""Tokens of all steps, each counted as it is planned: while the step before it runs."""
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
BUDGET = 512
"""Tokens of a step: 64 prompts of 300 tokens take 38 steps."""
STAYS = 500
"""Tokens of the one in the only slot: more than the others take to come and go."""


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


def leave(server: Server, gone: list[socket.socket]) -> float:
    """When they had, having left in all ways."""
    for number, client in enumerate(gone):
        LEAVE[number % 3](client)
    return time.monotonic()


@pytest.mark.parametrize("when", ["body", "prefill", "stream"])
def test_f12_they_leave(unhurt: Server, reference: list[Seen], when: str) -> None:
    """Alone: their blocks are free within a second. Beside others: those who stay get what they
    would alone."""
    server = unhurt
    with clients(server, when) as gone:
        computed = server.metric(COMPUTED)
        left = leave(server, gone)
        server.wait_idle(10)
        seconds = time.monotonic() - left
        extra = server.metric(COMPUTED) - computed
    report(f"F12-{when}-idle-s", round(seconds, 2), 1.0, streams=BAD, timed=True)
    if when == "body":
        report("F12-body-tokens", extra, 0, streams=BAD)
    seen: list[Seen] = []
    good = threading.Thread(target=lambda: seen.extend(Streams(server.url, GOOD, TOKENS).run()))
    good.start()
    with clients(server, when) as gone:
        leave(server, gone)
        good.join()
        server.wait_idle(10)
    report(f"F12-{when}-wrong", wrong(seen, reference), 0, streams=GOOD)


def test_f12_no_step_is_planned_for_those_who_have_left(start: Start) -> None:
    """The step that runs and the next one are on their way; so each costs two tokens at most. That
    it takes a moment to be noticed does not matter here, for steps are slow."""
    server = start("--max-num-batched-tokens", str(BUDGET), env=hooked("slow"))
    for when, step in (("prefill", BUDGET), ("stream", BAD)):
        with clients(server, when) as gone:
            wait_for(lambda: server.metric(RUNNING) + server.metric(WAITING) == BAD, 20)
            computed = at_a_new_plan(server)
            left = leave(server, gone)
            server.wait_idle(10)
            seconds = time.monotonic() - left
            steps = (server.metric(COMPUTED) - computed) / step
        report(f"F12-slow-{when}-idle-s", round(seconds, 2), 1.0, streams=BAD, timed=True)
        report(f"F12-{when}-steps", round(steps, 2), 0, streams=BAD, timed=True, ceiling=2)


def at_a_new_plan(server: Server) -> float:
    """Tokens planned so far, just when that are more than before."""
    before = server.metric(COMPUTED)
    while (now := server.metric(COMPUTED)) == before:
        pass
    return now


def test_f12_they_leave_the_queue(start: Start) -> None:
    """One slot, and somebody in it who stays: all others wait, and nothing is computed for them."""
    server, prompt = start("--max-num-seqs", "1"), 5
    before = server.metric(COMPUTED)
    with socket.create_connection(("127.0.0.1", server.port), 30) as stays:
        stays.sendall(request(0, prompt, max_tokens=STAYS))
        stays.recv(64)
        with clients(server, "queue") as gone:
            wait_for(lambda: server.metric(WAITING) == BAD, 10)
            left = leave(server, gone)
            wait_for(lambda: server.metric(WAITING) == 0, 10)
            seconds = time.monotonic() - left
        server.wait_idle(60)
    report("F12-queue-idle-s", round(seconds, 2), 1.0, streams=BAD, timed=True)
    computed = server.metric(COMPUTED) - before
    report("F12-queue-tokens", computed - (prompt + STAYS - 1), 0, streams=BAD)


def resident(server: Server) -> int:
    """Bytes of the frontend."""
    status = Path(f"/proc/{server.children()['frontend-0']}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) << 10


@pytest.mark.slow
def test_f13_they_do_not_read(start: Start, reference: list[Seen]) -> None:
    """32 long answers with 20 alternatives a token, read a byte a second, or not: they are cut off
    after a minute. Others feel no more of them than of 32 that read."""
    server = start()
    beside_readers, _ = itl_beside(server, reading=True)
    server.wait_idle(120)
    memory, began = resident(server), time.monotonic()
    itl, stalled = itl_beside(server, reading=False)
    over = threading.Event()
    trickling = threading.Thread(target=trickle, args=(stalled[::2], over))
    trickling.start()
    # Their tokens are computed all the same, until each is found to have stalled.
    wait_for(lambda: server.metric("vllm:num_requests_running") == 0, 600)
    most = resident(server) - memory
    wait_for(lambda: all(cut_off(client) for client in stalled), 90)
    over.set()
    trickling.join()
    report("F13-MiB", round(most / 2**20), 64, streams=SLOW)
    report("F13-cut-off-s", round(time.monotonic() - began), 150, streams=SLOW, timed=True)
    ratio = round(itl / beside_readers, 2)
    report("F13-others-p99-itl", ratio, 1.2, streams=GOOD, timed=True)
    for client in stalled:
        client.close()


def itl_beside(server: Server, *, reading: bool) -> tuple[float, list[socket.socket]]:
    """p99 of the seconds between tokens of good streams beside slow ones; and these."""
    clients = [ask(server, number, reading) for number in range(SLOW)]
    readers = [threading.Thread(target=read_all, args=(client,)) for client in clients]
    for reader in readers if reading else ():
        reader.start()
    streams = Streams(server.url, GOOD, 4 * TOKENS)
    seen = streams.run()
    assert all(one.done for one in seen)
    for reader in readers if reading else ():
        reader.join()
    return percentile([gap for one in seen for gap in one.gaps], 0.99), clients


def ask(server: Server, number: int, reading: bool) -> socket.socket:
    """For some megabytes of events, of which the kernel takes few here unless they are read."""
    client = socket.socket()
    if not reading:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.sendall(request(number, 5, logprobs=20, max_tokens=6 * TOKENS if reading else 2000))
    return client


def read_all(client: socket.socket) -> None:
    with client:
        client.settimeout(60)
        while b"data: [DONE]" not in client.recv(1 << 20):
            pass


def trickle(clients: list[socket.socket], over: threading.Event) -> None:
    """A byte a second."""
    while not over.wait(1):
        for client in clients:
            with contextlib.suppress(OSError):
                client.recv(1, socket.MSG_DONTWAIT)


def cut_off(client: socket.socket) -> bool:
    """Whether the server has given the connection up: what is unread goes with a reset."""
    established = 1
    state = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != established
