"""All that may happen to a running server, by name, and a seeded order for it to happen in."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fault_garbage import flood
from fuzz_client import fuzz
from fuzz_requests import Fuzzer
from octavo_server import Server

RESET = struct.pack("ii", 1, 0)
FEW, MANY = 8, 64
PER_MINUTE = 4
"""Deaths that the supervisor counts; at six within a minute it gives up."""
WINDOW = 75.0


@dataclass
class Scene:
    """A server with the hooks of `faults/sitecustomize.py`. `sockets`: the folder of its own;
    `clock`: by how much the wall clock is wrong; `odd`: answers that no server may give."""

    server: Server
    sockets: Path
    clock: Path
    rng: random.Random
    odd: list[str] = field(default_factory=list)
    _kept: collections.deque[socket.socket] = field(default_factory=collections.deque)

    def connect(self, data: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.server.port), 10)
        client.sendall(data)
        return client

    def keep(self, client: socket.socket) -> None:
        """Open, and unread; for a while."""
        self._kept.append(client)
        while len(self._kept) > MANY:
            self._kept.popleft().close()

    def close(self) -> None:
        for client in self._kept:
            client.close()

    def ask(
        self, expected: tuple[int, ...], headers: dict[str, str] | None = None, **fields: Any
    ) -> None:
        """A request whose answer must have one of these statuses. Where its frontend dies there
        is none, and while the engine is away it is 503."""
        body = {"prompt": "Tell me", "max_tokens": 8, "ignore_eos": True} | fields
        try:
            url = f"{self.server.url}/v1/completions"
            answer = httpx.post(url, json=body, headers=headers, timeout=90)
        except httpx.HTTPError:
            return
        if answer.status_code not in (*expected, 503):
            self.odd.append(f"{fields}: {answer.status_code} {answer.text}")

    def ask_many(self, count: int, expected: tuple[int, ...], **fields: Any) -> None:
        with ThreadPoolExecutor(count) as pool:
            for _ in range(count):
                pool.submit(self.ask, expected, **fields)


@dataclass(frozen=True)
class Fault:
    """`deaths`: that the supervisor counts. `streams`: whether it breaks those of a frontend."""

    strike: Callable[[Scene], None]
    deaths: int = 0
    breaks_streams: bool = False


def signalled(prefix: str, number: signal.Signals) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        found = [pid for name, pid in scene.server.children().items() if name.startswith(prefix)]
        if found:
            os.kill(scene.rng.choice(sorted(found)), number)

    return strike


def admin(command: str) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        path = f"{scene.sockets}/octavo-{os.getuid()}-{scene.server.port}.admin"
        argv = [sys.executable, "-P", "-m", "octavo.services.launch", "admin", command]
        subprocess.run([*argv, "--socket", path], capture_output=True, timeout=60, check=True)

    return strike


def request_bytes(**fields: Any) -> bytes:
    body = json.dumps({"prompt": "Tell me", "ignore_eos": True, "stream": True} | fields).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


def clients_leave(scene: Scene) -> None:
    """By FIN and by RST, in their bodies and in their streams."""
    data = request_bytes(max_tokens=500)
    for number in range(MANY):
        client = scene.connect(data[: len(data) // 2] if number % 2 else data)
        if number % 4 > 1:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()


def clients_stall(scene: Scene) -> None:
    for _ in range(FEW):
        scene.keep(scene.connect(request_bytes(max_tokens=300, logprobs=20)))


def slow_heads(scene: Scene) -> None:
    for _ in range(FEW):
        scene.keep(scene.connect(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"))


def garbage(scene: Scene) -> None:
    for folder in scene.sockets.iterdir():
        if folder.is_dir():
            flood(folder, scene.rng.randrange(1000))


def bad_requests(scene: Scene) -> None:
    fuzzer = Fuzzer(scene.rng.randrange(1000))
    with contextlib.suppress(OSError):  # a frontend may die
        asyncio.run(fuzz(scene.server.port, fuzzer, range(20), concurrency=4))


def clock_jumps(scene: Scene) -> None:
    scene.clock.write_text(f"{scene.rng.choice([3600, -3600, 0]):+}s")


def cursed(max_tokens: int, status: int) -> Callable[[Scene], None]:
    """As CURSES of the hooks has it."""
    return lambda scene: scene.ask((status,), max_tokens=max_tokens)


FAULTS = {
    "worker-killed": Fault(signalled("worker", signal.SIGKILL), 1),
    "scheduler-killed": Fault(signalled("scheduler", signal.SIGKILL), 1),
    "frontend-killed": Fault(signalled("frontend", signal.SIGKILL), 1, breaks_streams=True),
    "worker-stopped": Fault(signalled("worker", signal.SIGSTOP), 1),
    "scheduler-stopped": Fault(signalled("scheduler", signal.SIGSTOP), 1),
    "frontend-stopped": Fault(signalled("frontend", signal.SIGSTOP), 1, breaks_streams=True),
    "workers-replaced": Fault(admin("restart-workers")),
    "frontends-replaced": Fault(admin("restart-frontends")),
    "clients-leave": Fault(clients_leave),
    "clients-stall": Fault(clients_stall),
    "slow-heads": Fault(slow_heads),
    "garbage": Fault(garbage),
    "bad-requests": Fault(bad_requests),
    "one-id-for-all": Fault(
        lambda scene: scene.ask_many(FEW, (200,), headers={"X-Request-Id": "a"})
    ),
    "overload": Fault(lambda scene: scene.ask_many(MANY, (200,))),
    "deadlines": Fault(lambda scene: scene.ask_many(FEW, (200, 504), deadline_ms=5)),
    "step-raises": Fault(cursed(43, 500)),
    "out-of-memory": Fault(cursed(44, 503)),
    "nan": Fault(cursed(45, 500)),
    "clock-jumps": Fault(clock_jumps),
}


def schedule(seed: int, count: int, interval: float) -> list[str]:
    """What happens at 0, 1, 2, ... intervals; never so many deaths that the server gives up."""
    rng = random.Random(seed)
    deaths: collections.deque[float] = collections.deque()
    names = []
    for number in range(count):
        now = number * interval
        while deaths and deaths[0] <= now - WINDOW:
            deaths.popleft()
        allowed = [n for n, one in FAULTS.items() if len(deaths) + one.deaths <= PER_MINUTE]
        names.append(rng.choice(allowed))
        deaths.extend([now] * FAULTS[names[-1]].deaths)
    return names
