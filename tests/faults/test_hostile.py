"""F22, F24, F25: garbage where messages are expected, bad requests beside good streams, and ids
that are everybody's."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fault_checks import COUNT, TOKENS, outcomes, percentile, report, wrong
from fault_garbage import flood
from fault_streams import Seen, Streams
from floods import bad_flood, elsewhere
from fuzz_client import Verdict
from octavo_server import Server


def test_f22_garbage_on_the_internal_sockets(
    lasting_sockets: Path, unhurt: Server, reference: list[Seen]
) -> None:
    [folder] = [one for one in lasting_sockets.iterdir() if one.is_dir()]
    seen = Streams(unhurt.url, COUNT, TOKENS).run(lambda: flood(folder), at=0.2)
    report("F22-wrong", wrong(seen, reference), 0)
    for name in ("frontends", "workers"):
        dropped = unhurt.metric("octavo:malformed_frames_total", socket=name)
        assert dropped > 50, f"dropped at the socket of the {name}, and not counted"


def test_f24_bad_requests_beside_good_streams(unhurt: Server, reference: list[Seen]) -> None:
    verdict, _ = beside_bad_requests(unhurt, reference, 500, 100.0)
    assert len(verdict.refusals) > 500 // 3, verdict.statuses


@pytest.mark.slow
def test_f24_good_streams_are_not_slowed_down(unhurt: Server, reference: list[Seen]) -> None:
    """By as many bad requests a second as two cores have room for beside streams and clients."""
    ask_helpers(unhurt)
    alone = good_itls(unhurt, reference, lambda rounds: rounds >= 25)
    _, beside = beside_bad_requests(unhurt, reference, 2500, 40.0)
    ratio = round(percentile(beside, 0.99) / percentile(alone, 0.99), 2)
    report("F24-good-p99-itl", ratio, 1.2, streams=16, timed=True)


def beside_bad_requests(
    server: Server, reference: list[Seen], count: int, rate: float
) -> tuple[Verdict, list[float]]:
    """What became of them, `rate` a second; and `good_itls` meanwhile."""
    ask_helpers(server)
    with elsewhere() as pool:
        flooding = pool.submit(bad_flood, server.port, count, rate)
        itls = good_itls(server, reference, lambda rounds: flooding.done())
    verdict = flooding.result()
    assert verdict.faults == []
    report("F24-bad-requests", sum(verdict.statuses.values()), seed=7, streams=16)
    p99 = round(1e3 * percentile(verdict.refusals, 0.99))
    report("F24-refusal-p99-ms", p99, 100, streams=16, timed=True)
    return verdict, itls


def ask_helpers(server: Server) -> None:
    """Each of the two for grammars, which are up some seconds after the server."""
    for number in range(2):
        ask(server, "a", {}, structured_outputs={"regex": f"{number}+"})


def good_itls(server: Server, reference: list[Seen], enough: Callable[[int], bool]) -> list[float]:
    """Seconds between the tokens of 16 streams at a time, which have what they should."""
    gaps: list[float] = []
    for rounds in itertools.count(1):
        seen = Streams(server.url, 16, TOKENS).run()
        assert outcomes(seen) == outcomes(reference[:16])
        gaps += [gap for one in seen for gap in one.gaps[1:]]
        if enough(rounds):
            break
    return gaps


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
