"""Load that goes on for minutes: known requests, each answer compared with what it was alone."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fault_checks import TOKENS
from fault_streams import CONNECTIONS, Seen, Streams
from octavo_server import Server

KNOWN = 32
"""Different requests."""
DEADLINE = 60.0
"""Seconds in which each has ended, whatever happens to the server."""


@dataclass
class History:
    """All that clients saw: (number, outcome, seconds to the first token, begun at)."""

    reference: list[Seen]
    finished: int = 0
    broken: list[str] = field(default_factory=list)
    """Streams that ended with an error, by what it was."""
    wrong: list[str] = field(default_factory=list)
    """Answers that no server may give."""
    left: int = 0
    refused: int = 0
    times: list[tuple[float, float]] = field(default_factory=list)
    """(when, seconds) of the streams that finished."""

    def add(self, number: int, seen: Seen, began: float) -> None:
        """Whatever came must be the beginning of what is right, and all of it where it ended."""
        known, now = self.reference[number], time.monotonic()
        if now - began > DEADLINE:
            self.wrong.append(f"request {number} took {now - began:.0f} s")
        if seen.ids != known.ids[: len(seen.ids)] or not known.text.startswith(seen.text):
            self.wrong.append(f"request {number} said something else: {seen.ids}")
        if not seen.done:
            self.broken.append(seen.error or "cut")
        elif seen.outcome != known.outcome:
            self.wrong.append(f"request {number} ended otherwise: {seen.outcome}")
        else:
            self.finished += 1
            self.times.append((now, now - began))


class Load:
    """`clients` at a time, each with one request after another, until `stop`.

    `leaving`, `bad`: shares of requests whose client leaves midway, or that no server takes.
    """

    def __init__(
        self,
        server: Server,
        reference: list[Seen],
        clients: int,
        *,
        seed: int = 0,
        leaving: float = 0.0,
        bad: float = 0.0,
    ) -> None:
        self.history = History(reference)
        self._url, self._clients = server.url, clients
        self._leaving, self._bad = leaving, bad
        self._rng = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=120, limits=CONNECTIONS) as client:
            await asyncio.gather(*(self._go_on(client) for _ in range(self._clients)))

    async def _go_on(self, client: httpx.AsyncClient) -> None:
        while not self._over.is_set():
            drawn = self._rng.random()
            if drawn < self._bad:
                await self._send_nonsense(client)
            elif drawn < self._bad + self._leaving:
                await self._leave(client)
            else:
                await self._ask(client)

    async def _ask(self, client: httpx.AsyncClient) -> None:
        number, began = self._rng.randrange(KNOWN), time.monotonic()
        streams = Streams(self._url, KNOWN, TOKENS)
        await streams.one(client, number)
        seen = streams.seen[number]
        self.history.add(number, seen, began)
        if not seen.begun:
            await asyncio.sleep(0.2)  # refused, or nobody there: as a client would

    async def _leave(self, client: httpx.AsyncClient) -> None:
        body = {"prompt": "Tell me", "max_tokens": 500, "ignore_eos": True, "stream": True}
        try:
            url = f"{self._url}/v1/completions"
            async with client.stream("POST", url, json=body) as answer:
                await anext(answer.aiter_bytes(), b"")
        except httpx.HTTPError:
            pass
        self.history.left += 1

    async def _send_nonsense(self, client: httpx.AsyncClient) -> None:
        bodies = [b"{", b'{"prompt": 5, "max_tokens": -1}', b'{"prompt": "x", "temperature": 1e9}']
        content = self._rng.choice(bodies)
        try:
            answer = await client.post(f"{self._url}/v1/completions", content=content)
            if answer.status_code not in (400, 503):
                self.history.wrong.append(f"nonsense was answered with {answer.status_code}")
        except httpx.HTTPError:
            pass
        self.history.refused += 1


class Memory:
    """Resident bytes of the server's processes, once a second."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.samples: list[tuple[float, int]] = []

    def sample(self) -> None:
        pids = [self._server.process.pid, *self._server.children().values()]
        self.samples.append((time.monotonic(), sum(resident(pid) for pid in pids)))

    def slope(self, skip: float = 0.3) -> float:
        """MiB a minute, by least squares; the first part is warm-up."""
        kept = self.samples[int(len(self.samples) * skip) :]
        mean_t = sum(t for t, _ in kept) / len(kept)
        mean_m = sum(m for _, m in kept) / len(kept)
        above = sum((t - mean_t) * (m - mean_m) for t, m in kept)
        below = sum((t - mean_t) ** 2 for t, _ in kept)
        return above / below * 60 / 2**20


def resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


def for_a_while(seconds: float, each: float, do: Callable[[int], None]) -> None:
    """`do(0)`, `do(1)`, ... once in `each` seconds."""
    began = time.monotonic()
    for turn in range(int(seconds / each)):
        do(turn)
        time.sleep(max(0.0, began + (turn + 1) * each - time.monotonic()))


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
