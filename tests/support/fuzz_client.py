"""Sends generated requests over raw sockets, many at once, and judges the answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fuzz_requests import Fuzzer, FuzzRequest, RawRequest

ANSWER_SECONDS = 120.0
RAW_SECONDS = 2.0
"""After which whoever sent half a request goes."""


@dataclass
class Verdict:
    """What came back: how often each status, and what should not have been."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    """Seconds that each 4xx took."""

    def take(self, request: FuzzRequest, status: str, fault: str | None, seconds: float) -> None:
        self.statuses[status] += 1
        if status.startswith("4"):
            self.refusals.append(seconds)
        if fault is not None:
            body = request.body[:600].decode("utf-8", "replace")
            self.faults.append(f"#{request.number} {request.path}: {fault}\n    {body}")

    def add(self, other: Verdict) -> None:
        self.statuses += other.statuses
        self.faults += other.faults
        self.refusals += other.refusals


async def fuzz(port: int, fuzzer: Fuzzer, numbers: range, concurrency: int = 24) -> Verdict:
    """Send these requests, `concurrency` at a time."""
    return await send(port, map(fuzzer.request, numbers), concurrency)


async def send(port: int, requests: Iterable[FuzzRequest], concurrency: int) -> Verdict:
    verdict = Verdict()
    waiting = iter(requests)

    async def work() -> None:
        for request in waiting:
            began = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    status, fault = await _exchange(port, request)
            except TimeoutError:
                status, fault = "none", "no answer"
            verdict.take(request, status, fault, time.monotonic() - began)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return verdict


async def _exchange(port: int, request: FuzzRequest) -> tuple[str, str | None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        message = request.head() + request.body
        if request.leaves_after is not None:
            writer.write(message[: int(len(message) * request.cut)])
            await writer.drain()
            await asyncio.sleep(request.leaves_after)
            return "left", None
        writer.write(message)
        await writer.drain()
        return _judge(request, await _answer(request, reader))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _answer(request: FuzzRequest, reader: asyncio.StreamReader) -> bytes:
    """Until the server closes. A raw request may be half of one, or leave the connection open."""
    if not isinstance(request, RawRequest):
        return await reader.read()
    found = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(RAW_SECONDS):
            while data := await reader.read(1 << 16):
                found += data
    return found


def _judge(request: FuzzRequest, answer: bytes) -> tuple[str, str | None]:
    head, _, body = answer.partition(b"\r\n\r\n")
    if isinstance(request, RawRequest) and not head:
        return "none", None
    lines = head.decode("latin-1").split("\r\n")
    status = lines[0][9:12]  # behind "HTTP/1.1 "
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _dechunked(body)
    return status, _fault(request, status, headers.get("content-type", ""), body)


def _fault(request: FuzzRequest, status: str, kind: str, body: bytes) -> str | None:
    if b'"code":"deadline_exceeded"' in body:
        return (
            None if b"deadline" in request.head() + request.body else "a deadline never asked for"
        )
    if not status.isdecimal() or int(status) >= 500:
        return f"status {status or 'none'}: {body[:300]!r}"
    if request.method == "HEAD" or not body:
        return None
    if kind.startswith("text/event-stream"):
        return _stream_fault(body)
    if kind.startswith("application/json"):
        try:
            answer = json.loads(body)
        except ValueError:
            return f"no JSON: {body[:300]!r}"
        if int(status) >= 400 and not _message_of(answer):
            return f"an error without a message: {body[:300]!r}"
    return None


def _stream_fault(body: bytes) -> str | None:
    if not body.endswith(b"\n\n"):
        return f"a stream cut off: {body[-200:]!r}"
    if b'"server_error"' in body or b'"code":"internal_error"' in body:
        return f"an error in a stream: {body[-300:]!r}"
    return None


def _message_of(answer: object) -> object:
    error = answer.get("error") if isinstance(answer, dict) else None
    return error.get("message") if isinstance(error, dict) else None


def _dechunked(body: bytes) -> bytes:
    parts = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts)
