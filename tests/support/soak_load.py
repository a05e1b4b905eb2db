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
from fault_checks import COUNT, TOKENS
from fault_streams import CONNECTIONS, Seen, Streams
from octavo_server import Server

DEADLINE = 60.0
"""Seconds that each request gives the server, which ends it then if it has not before."""
GRACE = 15.0
"""Of the clock of whoever may be away just then."""


REFUSED = ('"code":"engine_dead"', '"code":"overloaded"')
"""While nobody is there, or all are busy."""
LOST = "Error("
"""What httpx calls its errors: the connection has ended."""


@dataclass
class History:
    """All that clients saw of known requests."""

    reference: list[Seen]
    finished: int = 0
    refused: list[str] = field(default_factory=list)
    """Requests that were turned away before they began, by why."""
    broken: list[str] = field(default_factory=list)
    """Streams that had begun and whose connection ended, by how."""
    wrong: list[str] = field(default_factory=list)
    """Answers that no server may give."""
    late: int = 0
    """Ended by their deadline."""
    left: int = 0
    nonsense: int = 0
    times: list[tuple[float, float]] = field(default_factory=list)
    """(when, seconds) of the streams that finished."""

    def add(self, number: int, seen: Seen, began: float) -> None:
        """Whatever came must be the beginning of what is right: no gap, nothing twice, nothing of
        another's. Where it ended it must be all of it, with its usage. And it must end."""
        known, now, error = self.reference[number], time.monotonic(), seen.error or ""
        if now - began > DEADLINE + GRACE:
            self.wrong.append(f"request {number} took {now - began:.0f} s")
        if seen.ids != known.ids[: len(seen.ids)] or not known.text.startswith(seen.text):
            self.wrong.append(f"request {number} said something else: {seen.ids}")
        if seen.done and seen.outcome == known.outcome:
            self.finished += 1
            self.times.append((now, now - began))
        elif "deadline_exceeded" in error and now - began >= DEADLINE:
            self.late += 1
        elif not seen.begun and (LOST in error or any(code in error for code in REFUSED)):
            self.refused.append(error)
        elif not seen.done and LOST in error:
            self.broken.append(error)
        else:
            self.wrong.append(f"request {number} ended otherwise: {seen.outcome}")

    @property
    def summary(self) -> dict[str, int]:
        parts = {"finished": self.finished, "left": self.left, "nonsense": self.nonsense}
        ends = {"refused": len(self.refused), "broken": len(self.broken), "late": self.late}
        return parts | ends


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
        self._seed = seed
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
            await asyncio.gather(*(self._go_on(client, one) for one in range(self._clients)))

    async def _go_on(self, client: httpx.AsyncClient, number: int) -> None:
        rng = random.Random(f"{self._seed} {number}")
        while not self._over.is_set():
            drawn = rng.random()
            if drawn < self._bad:
                await self._send_nonsense(client, rng)
            elif drawn < self._bad + self._leaving:
                await self._leave(client)
            else:
                await self._ask(client, rng.randrange(COUNT))

    async def _ask(self, client: httpx.AsyncClient, number: int) -> None:
        began = time.monotonic()
        streams = Streams(self._url, COUNT, TOKENS)
        await streams.one(client, number, deadline_ms=int(1000 * DEADLINE))
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

    async def _send_nonsense(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        bodies = [b"{", b'{"prompt": 5, "max_tokens": -1}', b'{"prompt": "x", "temperature": 1e9}']
        content = rng.choice(bodies)
        try:
            answer = await client.post(f"{self._url}/v1/completions", content=content)
            if answer.status_code not in (400, 503):
                self.history.wrong.append(f"nonsense was answered with {answer.status_code}")
        except httpx.HTTPError:
            pass
        self.history.nonsense += 1


WARM_UP = 0.3
NOISE = 8.0
"""MiB."""


class Memory:
    """Resident bytes of the server's processes, once a second. The first part is warm-up."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.samples: list[tuple[float, int]] = []

    def sample(self) -> None:
        pids = [self._server.process.pid, *self._server.children().values()]
        self.samples.append((time.monotonic(), sum(resident(pid) for pid in pids)))

    def _kept(self) -> list[tuple[float, int]]:
        return self.samples[int(len(self.samples) * WARM_UP) :]

    def limit(self, per_minute: float) -> float:
        """MiB a minute. A short time cannot tell so little from what comes and goes."""
        minutes = (self._kept()[-1][0] - self._kept()[0][0]) / 60
        return round(max(per_minute, NOISE / minutes), 2)

    def slope(self) -> float:
        """MiB a minute, by least squares."""
        kept = self._kept()
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
