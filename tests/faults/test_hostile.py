"""F22, F24, F25: garbage where messages are expected, bad requests beside good streams, and ids
that are everybody's."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import zmq
from bad_requests import all_bad
from fault_checks import COUNT, TOKENS, Footprint, outcomes, report
from fault_streams import Seen, Streams
from fuzz_client import Verdict, send
from fuzz_requests import Fuzzer, FuzzRequest, RawRequest
from octavo_server import Server
from soak_load import percentile

from octavo.shared.config import FRONTEND_SOCKET, WORKER_SOCKET
from octavo.shared.messages import Abort, Hello, StepResult, Submit, WorkerReady, pack
from octavo.shared.sampling import SamplingParams
from octavo.shared.transport import Codec

Start = Callable[..., Server]
CODEC: Codec[object] = Codec(object)


def frames(rng: random.Random) -> list[bytes]:
    """Nonsense, halves of messages, and whole ones that nobody should have sent."""
    submit = Submit(b"x" * 16, pack([1, 2]), SamplingParams(), 0.0)
    strange = [
        Submit(b"short", b"odd", SamplingParams(), 0.0),
        Submit(b"y" * 16, pack([-5, 1 << 30]), SamplingParams(), 0.0),
        Submit(b"z" * 16, pack([1]), SamplingParams(), 0.0, output_ids=b"abc"),
        Abort([b"", b"x" * 16, b"q" * 1000]),
        Hello(),
        StepResult(step=1, token_ids=pack([1])),
        WorkerReady(rank=-7, num_blocks=1, epoch=0),
    ]
    whole = [CODEC.encode(message) for message in (submit, *strange)]
    cut = [frame[: rng.randrange(len(frame))] for frame in whole]
    noise = [rng.randbytes(rng.randrange(2000)) for _ in range(50)]
    return [*whole, *cut, b"", b"\xdd\xff\xff\xff\xff", *noise]


def flood(folder: Path) -> None:
    """Over ZeroMQ, and as raw bytes that are not even that."""
    rng = random.Random(0)
    context = zmq.Context()
    for name in (FRONTEND_SOCKET, WORKER_SOCKET):
        peer = context.socket(zmq.DEALER)
        peer.setsockopt(zmq.LINGER, 500)
        peer.connect(f"ipc://{folder / name}")
        for frame in frames(rng):
            peer.send_multipart([frame] * rng.choice([1, 1, 2, 3]))
        peer.close()
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
        huge = greeting + b"\x02" + struct.pack(">Q", 1 << 30) + b"x"
        for data in (b"GET / HTTP/1.1\r\n\r\n", rng.randbytes(4096), greeting, huge):
            with socket.socket(socket.AF_UNIX) as raw:
                raw.connect(str(folder / name))
                raw.sendall(data)
    context.term()


def test_f22_garbage_on_the_internal_sockets(start: Start, reference: list[Seen]) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        server = start(env={"TMPDIR": temporary})
        before, children = Footprint(server), server.children()
        [folder] = [one for one in Path(temporary).iterdir() if one.is_dir()]
        seen = Streams(server.url, COUNT, TOKENS).run(lambda: flood(folder), at=0.2)
        assert outcomes(seen) == outcomes(reference)
        assert server.children() == children
        before.check()
        assert server.stop() == 0


def bad_requests(count: int) -> Iterator[FuzzRequest]:
    """`count` of them: those of the rows, each time anew, and generated ones of every kind."""
    fuzzer, rows = Fuzzer(7), list(all_bad())
    for number in range(count):
        given = rows[number // 2 % len(rows)]
        raw = RawRequest(number, "POST", "raw", given)
        yield raw if number % 2 else fuzzer.request(number)


@pytest.mark.parametrize("count", [500, pytest.param(2500, marks=pytest.mark.slow)])
def test_f24_bad_requests_beside_good_streams(
    start: Start, reference: list[Seen], count: int
) -> None:
    server = start("--served-model-name", "demo")
    before, children = Footprint(server), server.children()
    found: list[Verdict] = []
    over = threading.Event()

    def bad() -> None:
        found.append(asyncio.run(send(server.port, bad_requests(count), concurrency=8)))
        over.set()

    thread = threading.Thread(target=bad)
    thread.start()
    rounds = 0
    while not over.is_set() or not rounds:
        seen = Streams(server.url, 16, TOKENS).run()
        assert outcomes(seen) == outcomes(reference[:16])
        rounds += 1
    thread.join()
    [verdict] = found
    assert verdict.faults == [] and server.children() == children
    report("F24", sum(verdict.statuses.values()), count)
    report("F24 statuses", dict(verdict.statuses), "2xx 4xx", rounds * 16)
    p50, p99 = (round(1e3 * percentile(verdict.refusals, share)) for share in (0.5, 0.99))
    report("F24 refusal p50 p99 ms", f"{p50} {p99}", 100, rounds * 16)
    assert len(verdict.refusals) > count // 3
    before.check()


def test_f25_everybody_has_the_same_id(start: Start) -> None:
    """And those who leave take nobody along."""
    server = start()
    headers = {"X-Request-Id": "a"}
    texts = [f"Count to {number}." for number in range(16)]
    alone = [ask(server, text, {}) for text in texts]
    with ThreadPoolExecutor(32) as pool:
        leaving = [pool.submit(leave, server) for _ in range(16)]
        together = list(pool.map(lambda text: ask(server, text, headers), texts * 4))
        for one in leaving:
            one.result()
    assert together == alone * 4
    server.wait_idle()


def ask(server: Server, prompt: str, headers: dict[str, str]) -> str:
    body = {"prompt": prompt, "max_tokens": 24, "temperature": 0, "ignore_eos": True}
    answer = httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=60)
    assert answer.headers.get("x-request-id", "") == headers.get("X-Request-Id", "")
    return str(answer.json()["choices"][0]["text"])


def leave(server: Server) -> None:
    fields = {"prompt": "a", "max_tokens": 500, "stream": True, "ignore_eos": True}
    body = json.dumps(fields | {"request_id": "a"}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"{head}X-Request-Id: a\r\n\r\n".encode() + body)
        connection.recv(10)
