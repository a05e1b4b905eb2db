"""A rolling restart of two real replicas behind HAProxy and nginx, with the files of deploy/."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from balancers import NAMES, balancing, is_up
from octavo_server import Server, wait_for

COUNT, CLIENTS, TOKENS, PROMPTS = 2000, 16, 12, 100
FLAGS = ("--device", "cpu", "--shutdown-timeout", "20")
PATH = "/v1/completions"
SERVED = re.compile(r" request .*route=/v1/completions status=200 .*output_tokens=(\d+)")


def body(number: int) -> dict[str, Any]:
    """On a CPU its answer depends on nothing but itself."""
    draw = random.Random(number % PROMPTS)
    return {
        "prompt": [draw.randrange(5, 200) for _ in range(draw.randrange(1, 40))],
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        "stream": True,
    }


@dataclass
class Answer:
    text: str = ""
    ids: list[int] = field(default_factory=list)

    def take(self, data: str) -> None:
        for choice in json.loads(data)["choices"]:
            self.text += choice["text"]
            self.ids += choice.get("token_ids") or []


async def answer(client: httpx.AsyncClient, url: str, number: int) -> Answer | str:
    """What was said, or how it failed."""
    found = Answer()
    async with client.stream("POST", url + PATH, json=body(number)) as reply:
        if reply.status_code != 200:
            return f"{reply.status_code} {(await reply.aread())[:99]!r}"
        async for line in reply.aiter_lines():
            if line == "data: [DONE]":
                return found
            if line.startswith("data: "):
                found.take(line[6:])
    return "cut"


class Clients:
    """Streams through the balancer, each compared with what a replica by itself says."""

    def __init__(self, url: str, expected: list[Answer | str]) -> None:
        self._url = url
        self._expected = expected
        self.ends: Counter[str] = Counter()
        self.deadlines: Counter[int] = Counter()
        self._left = iter(range(COUNT))

    @property
    def progress(self) -> float:
        return sum(self.ends.values()) / COUNT

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=CLIENTS + 1)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            hasty = asyncio.create_task(self._ask_for_too_much(client))
            await asyncio.gather(*(self._go_on(client) for _ in range(CLIENTS)))
            hasty.cancel()

    async def _go_on(self, client: httpx.AsyncClient) -> None:
        for number in self._left:
            try:
                given = await answer(client, self._url, number)
            except httpx.HTTPError as error:
                given = repr(error)
            right = given == self._expected[number % PROMPTS]
            self.ends["right" if right else f"{given}"] += 1

    async def _ask_for_too_much(self, client: httpx.AsyncClient) -> None:
        """One client whose deadlines always pass: the others must not notice its 504s."""
        wish = {**body(0), "stream": False, "deadline_ms": 1}
        while True:
            given = await client.post(self._url + PATH, json=wish)
            self.deadlines[given.status_code] += 1
            await asyncio.sleep(0.05)


@pytest.fixture
def replicas() -> Iterator[list[Server]]:
    """All that ever ran; the last two are running."""
    servers = [Server(*FLAGS), Server(*FLAGS)]
    for server in servers:
        server.wait_ready()
    yield servers
    for server in servers:
        server.stop()


def served(servers: list[Server]) -> list[int]:
    """Output tokens of each request that the replicas themselves count as answered."""
    return [
        int(one[1]) for server in servers for line in server.lines if (one := SERVED.search(line))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_f17_rolling_restart(name: str, replicas: list[Server], tmp_path: Path) -> None:
    """2,000 streams, both replicas restarted under them: none fails, none is computed twice."""
    first, second = replicas
    expected = asyncio.run(by_itself(first.url))
    wait_for(lambda: len(served(replicas)) == PROMPTS, 10)
    with balancing(name, tmp_path, [f"127.0.0.1:{one.port}" for one in (first, second)]) as url:
        wait_for(lambda: is_up(url), 20)
        clients = Clients(url, expected)
        asyncio.run(with_restarts(clients, replicas))
    print(f"fault=F17 {name} streams={COUNT} value={dict(clients.ends)} limit={{'right': {COUNT}}}")
    assert clients.ends == {"right": COUNT}
    assert set(clients.deadlines) == {504}, clients.deadlines
    for server in replicas[2:]:
        assert server.stop() == 0
    counted = served(replicas)[:]
    assert len(counted) == COUNT + PROMPTS and set(counted) == {TOKENS}


async def by_itself(url: str) -> list[Answer | str]:
    async with httpx.AsyncClient(timeout=60) as client:
        found = [await answer(client, url, number) for number in range(PROMPTS)]
    assert all(isinstance(one, Answer) and len(one.ids) == TOKENS for one in found), found
    assert len({str(one) for one in found}) > PROMPTS / 2
    return found


async def with_restarts(clients: Clients, replicas: list[Server]) -> None:
    running = asyncio.create_task(clients.run())
    for index, server in enumerate(replicas[:]):
        while clients.progress < 0.2 + 0.3 * index:
            await asyncio.sleep(0.05)
        replicas.append(await asyncio.to_thread(restarted, server))
        await asyncio.sleep(2)  # until every balancer has seen that it is back
    await running


def restarted(server: Server) -> Server:
    assert server.stop() == 0
    again = Server(*FLAGS, port=server.port)
    again.wait_ready()
    return again
