"""Loads that come from a process of their own: what a test measures beside them does not wait for
its own interpreter."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from bad_requests import all_bad
from fault_streams import body_of
from fuzz_client import Verdict, send
from fuzz_requests import Fuzzer, FuzzRequest, RawRequest

T = TypeVar("T")
LOWEST = 19
WHOLE = {"stream": False, "stream_options": None}
HEAD = (
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
)


@contextmanager
def elsewhere(niceness: int = 0) -> Iterator[ProcessPoolExecutor]:
    """Where to run one; LOWEST: with what time the others leave."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawning, initializer=os.nice, initargs=(niceness,)) as pool:
        yield pool


async def paced(items: Iterable[T], rate: float) -> AsyncIterator[T]:
    """Each at its time, `rate` a second, whatever becomes of those before."""
    began = time.monotonic()
    for number, item in enumerate(items):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield item


# --- bad requests ----------------------------------------------------------------------------


def bad_flood(port: int, count: int, rate: float) -> Verdict:
    """`count` of them: those of the rows, each time anew, and generated ones of every kind."""

    async def run() -> Verdict:
        verdict, sending = Verdict(), set()
        async for request in paced(_bad_requests(count), rate):
            sending.add(asyncio.create_task(send(port, [request], 1)))
        for one in await asyncio.gather(*sending):
            verdict.add(one)
        return verdict

    return asyncio.run(run())


def _bad_requests(count: int) -> Iterator[FuzzRequest]:
    fuzzer, rows = Fuzzer(7), list(all_bad())
    for number in range(count):
        given = rows[number // 2 % len(rows)]
        raw = RawRequest(number, "POST", "raw", given)
        yield raw if number % 2 else fuzzer.request(number)


# --- too many requests -----------------------------------------------------------------------


@dataclass
class Answers:
    """`accepted`, `refused`: seconds that they took. `retry_after`: what the refused were told.
    By time.monotonic(): `served`, when each of the accepted was answered, and `over`, when the last
    request was sent."""

    accepted: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    retry_after: list[int] = field(default_factory=list)
    odd: list[bytes] = field(default_factory=list)
    over: float = 0.0

    def take(self, answer: bytes, seconds: float) -> None:
        match answer[9:12]:
            case b"200":
                self.accepted.append(seconds)
                self.served.append(time.monotonic())
            case b"503":
                self.refused.append(seconds)
                found = re.search(rb"\r\nretry-after: (\d+)\r\n", answer)
                self.retry_after.append(int(found[1]) if found else 0)
            case _:
                self.odd.append(answer)

    def per_second(self, warm_up: float) -> float:
        """How many were served, from `warm_up` seconds after the first until the last was sent."""
        began = self.served[0] + warm_up
        return sum(began < at <= self.over for at in self.served) / (self.over - began)


def at_rate(port: int, max_tokens: int, rate: float, seconds: float) -> Answers:
    """Requests that cost their client next to nothing, whatever becomes of them."""
    requests, answers = _requests(max_tokens), Answers()

    async def run() -> None:
        sending = set()
        async for number in paced(range(int(rate * seconds)), rate):
            sending.add(asyncio.create_task(_ask(port, requests[number % len(requests)], answers)))
        answers.over = time.monotonic()
        await asyncio.gather(*sending)

    asyncio.run(run())
    return answers


def _requests(max_tokens: int) -> list[bytes]:
    bodies = [json.dumps(body_of(number, max_tokens) | WHOLE).encode() for number in range(32)]
    return [HEAD % len(body) + body for body in bodies]


async def _ask(port: int, request: bytes, answers: Answers) -> None:
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answers.take(await reader.read(), time.monotonic() - began)
    writer.close()
