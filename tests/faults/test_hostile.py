"""F22, F24, F25: garbage where messages are expected, bad requests beside good streams, and ids
that are everybody's."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from bad_requests import all_bad
from fault_checks import COUNT, TOKENS, outcomes, percentile, report, wrong
from fault_garbage import flood
from fault_streams import Seen, Streams
from fuzz_client import Verdict, send
from fuzz_requests import Fuzzer, FuzzRequest, RawRequest
from octavo_server import Server


def test_f22_garbage_on_the_internal_sockets(
    lasting_sockets: Path, unhurt: Server, reference: list[Seen]
) -> None:
    [folder] = [one for one in lasting_sockets.iterdir() if one.is_dir()]
    seen = Streams(unhurt.url, COUNT, TOKENS).run(lambda: flood(folder), at=0.2)
    report("F22-wrong", wrong(seen, reference), 0)


def bad_requests(count: int) -> Iterator[FuzzRequest]:
    """`count` of them: those of the rows, each time anew, and generated ones of every kind."""
    fuzzer, rows = Fuzzer(7), list(all_bad())
    for number in range(count):
        given = rows[number // 2 % len(rows)]
        raw = RawRequest(number, "POST", "raw", given)
        yield raw if number % 2 else fuzzer.request(number)


@pytest.mark.parametrize("count", [500, pytest.param(2500, marks=pytest.mark.slow)])
def test_f24_bad_requests_beside_good_streams(
    unhurt: Server, reference: list[Seen], count: int
) -> None:
    server = unhurt
    for number in range(2):  # of each grammar helper, which are up some seconds after the server
        ask(server, "a", {}, structured_outputs={"regex": f"{number}+"})
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
    assert outcomes(seen) == outcomes(reference[:16])
    [verdict] = found
    assert verdict.faults == []
    report("F24-bad-requests-taken", count - sum(verdict.statuses.values()), 0, seed=7, streams=16)
    p50, p99 = (round(1e3 * percentile(verdict.refusals, share)) for share in (0.5, 0.99))
    report("F24-refusal-p99-ms", p99, 100, streams=rounds * 16, timed=True)
    assert p50 <= p99 and len(verdict.refusals) > count // 3


def test_f25_everybody_has_the_same_id(unhurt: Server) -> None:
    """And those who leave take nobody along."""
    server = unhurt
    headers = {"X-Request-Id": "a"}
    texts = [f"Count to {number}." for number in range(16)]
    alone = [ask(server, text, {}) for text in texts]
    with ThreadPoolExecutor(32) as pool:
        leaving = [pool.submit(leave, server) for _ in range(16)]
        together = list(pool.map(lambda text: ask(server, text, headers), texts * 4))
        for one in leaving:
            one.result()
    others = sum(one != right for one, right in zip(together, alone * 4, strict=True))
    report("F25-others", others, 0, streams=64)


def ask(server: Server, prompt: str, headers: dict[str, str], **more: Any) -> str:
    body = {"prompt": prompt, "max_tokens": 24, "temperature": 0, "ignore_eos": True, **more}
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
