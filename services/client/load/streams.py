"""A cheap streaming client for /v1/completions: one socket a request, no HTTP library.

The server often shares the machine, so that each event must cost next to nothing: the reply is
read in a protocol's callback, and no event is parsed but the one that brings the usage.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MAX_ERROR = 2000


@dataclass
class Timing:
    """One request: when it was sent, when each event with choices came, and its usage."""

    sent: float = 0.0
    arrivals: list[float] = field(default_factory=list)
    output_tokens: int = 0
    error: str | None = None
    input_tokens: int = 0

    @property
    def ttft(self) -> float:
        return self.arrivals[0] - self.sent

    @property
    def tpot(self) -> float:
        return (self.arrivals[-1] - self.arrivals[0]) / max(self.output_tokens - 1, 1)

    @property
    def seconds(self) -> float:
        return self.arrivals[-1] - self.sent

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]


@dataclass(frozen=True)
class Target:
    """A server."""

    url: str
    api_key: str = ""

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or (443 if self.is_secure else 80)

    @property
    def is_secure(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    def request(self, body: bytes) -> bytes:
        head = (
            f"POST {urlsplit(self.url).path.rstrip('/')}/v1/completions HTTP/1.1\r\n"
            f"Host: {self.address[0]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        )
        if self.api_key:
            head += f"Authorization: Bearer {self.api_key}\r\n"
        return head.encode() + b"\r\n" + body

    def model(self) -> str:
        """The first model that the server names."""
        request = urllib.request.Request(f"{self.url.rstrip('/')}/v1/models")
        if self.api_key:
            request.add_header("Authorization", f"Bearer {self.api_key}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["data"][0]["id"])


class EventReader(asyncio.Protocol):
    """Reads one reply into `timing`; `over` is set when the connection has ended."""

    def __init__(self, timing: Timing) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timing = timing
        self._unread = b""
        self._status = b""
        self._done = False

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            if not self._status:
                self._status = line
            elif line.startswith(b"data: "):
                self._event(line, now)
            elif not self._ok and len(self._status) < MAX_ERROR:
                self._status += b"\n" + line

    @property
    def _ok(self) -> bool:
        return b" 200 " in self._status[:16]

    def _event(self, line: bytes, now: float) -> None:
        if line.startswith(b"data: [DONE]"):
            self._done = True
        elif line.startswith(b'data: {"error"'):
            self._timing.error = line.decode(errors="replace")
        elif b'"completion_tokens"' in line:
            event = json.loads(line[6:])
            self._timing.output_tokens = event["usage"]["completion_tokens"]
            self._timing.input_tokens = event["usage"].get("prompt_tokens", 0)
            if event["choices"]:
                self._timing.arrivals.append(now)
        else:
            self._timing.arrivals.append(now)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timing.error is None and not self._done:
            said = self._status + b"\n" + self._unread
            how = "the stream ended without [DONE]" if self._ok else said.decode(errors="replace")
            self._timing.error = repr(error) if error else how.strip() or "closed without a reply"
        if not self.over.done():
            self.over.set_result(None)


async def stream(target: Target, body: bytes, timing: Timing) -> None:
    """One streamed completion; what came is in `timing`, an error too."""
    loop = asyncio.get_running_loop()
    timing.sent = time.perf_counter()
    try:
        transport, reader = await loop.create_connection(
            lambda: EventReader(timing), *target.address, ssl=target.is_secure or None
        )
    except OSError as error:
        timing.error = repr(error)
        return
    try:
        transport.write(target.request(body))
        await reader.over
    finally:
        transport.close()


async def stream_all(
    target: Target,
    bodies: Sequence[bytes],
    moments: Sequence[float],
    concurrency: int | None,
    done: Callable[[], object] = lambda: None,
) -> tuple[list[Timing], float]:
    """Every request at its moment, at most `concurrency` at once; and the seconds for all. `done`
    is called after each."""
    gate = asyncio.Semaphore(concurrency or len(bodies))
    timings = [Timing() for _ in bodies]

    async def one(body: bytes, moment: float, timing: Timing) -> None:
        await asyncio.sleep(moment)
        async with gate:
            await stream(target, body, timing)
        done()

    began = time.perf_counter()
    await asyncio.gather(*map(one, bodies, moments, timings))
    return timings, time.perf_counter() - began


def raise_file_limit(wanted: int) -> None:
    """Room for that many sockets, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + 100:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted + 100, hard), hard))
