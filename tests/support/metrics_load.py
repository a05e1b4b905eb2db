"""A known load for /metrics: streams whose clients note each token's time, ends of all kinds."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
from octavo_server import Server
from prometheus_client.parser import text_string_to_metric_families

KEYS = """
[keys.a]
key = "key-a"
[keys.b]
key = "key-b"
[keys.little]
key = "key-little"
requests_per_minute = 1
[keys.watch]
key = "key-watch"
scopes = ["metrics"]
"""
BLOCKS, BLOCK_SIZE, SLOTS = 32, 16, 6
QUEUED_REQUESTS, QUEUED_TOKENS = 12, 500
FLAGS = (
    *("--device", "cpu", "--frontends", "2", "--max-model-len", "256"),
    *("--kv-cache-memory-bytes", "3M", "--max-num-seqs", str(SLOTS)),
    *("--max-queued-requests", str(QUEUED_REQUESTS), "--max-queued-tokens", str(QUEUED_TOKENS)),
)
ONE_ID = 67
"""An id that some requests allow alone: `a`."""
SHARED = [7, 8, 9, 10] * 8


class Page:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        families = list(text_string_to_metric_families(text))
        self.names = {family.name for family in families}
        self.samples = [sample for family in families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Sum of the samples that have these labels."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert found, (name, labels)
        return sum(found)


@dataclass
class Choice:
    """One sequence, as its client saw it; `times`: of each token."""

    times: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    reason: str = ""


@dataclass
class Client:
    """One request; `code`: of its error, if it ended with one."""

    body: dict[str, Any]
    key: str
    sent: float = 0.0
    status: int = 0
    code: str | None = None
    said: int = 0
    heard: int = 0
    """Bytes of bodies."""
    choices: dict[int, Choice] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)

    @property
    def sequences(self) -> list[Choice]:
        return list(self.choices.values())

    @property
    def prompt_tokens(self) -> int:
        return int(self.usage["prompt_tokens"])

    @property
    def cached_tokens(self) -> int:
        return int(self.usage["prompt_tokens_details"]["cached_tokens"])


@dataclass
class Load:
    """Pages after each part, and who was there in it."""

    server: Server
    began: float = 0.0
    before: Page = field(default_factory=lambda: Page(""))
    during: list[Page] = field(default_factory=list)
    after: Page = field(default_factory=lambda: Page(""))
    end: Page = field(default_factory=lambda: Page(""))
    answered: list[Client] = field(default_factory=list)
    """Of the first part: streams that ran to their ends, more than there is room for."""
    ended: list[Client] = field(default_factory=list)
    """Of the second: ends of other kinds, one after another."""
    crowd: list[Client] = field(default_factory=list)
    """Of the third: more than may wait."""


def answered_bodies() -> list[tuple[str, dict[str, Any]]]:
    long = [
        ("key-a", {"prompt": [*SHARED, 20 + i], "max_tokens": 120 + i, "ignore_eos": True})
        for i in range(8)
    ]
    several = {"prompt": [5, 6, 7], "n": 3, "max_tokens": 24, "temperature": 1.0, "seed": 5}
    return [*long, ("key-b", several)]


def ended_bodies() -> list[tuple[str, dict[str, Any]]]:
    only = {"prompt": [5, 6], "allowed_token_ids": [ONE_ID], "max_tokens": 20, "min_tokens": 2}
    repeats = {"max_pattern_size": 1, "min_count": 4}
    return [
        ("key-b", only | {"min_tokens": 0, "stop_token_ids": [ONE_ID]}),
        ("key-b", only | {"stop": ["aaa"]}),
        ("key-b", only | {"repetition_detection": repeats}),
        ("key-b", {"prompt": [5, 6], "max_tokens": 200, "deadline_ms": 100, "ignore_eos": True}),
        ("key-little", {"prompt": [5, 6], "max_tokens": 2, "ignore_eos": True}),
        ("key-little", {"prompt": [5, 6], "max_tokens": 2}),
    ]


def crowd_bodies() -> list[tuple[str, dict[str, Any]]]:
    small = {"prompt": [5, 6], "max_tokens": 60, "ignore_eos": True}
    large = {"prompt": [9] * 200, "max_tokens": 20, "ignore_eos": True}
    return [("key-a", small)] * 20 + [("key-b", large)] * 12


async def run(load: Load) -> None:
    server = load.server
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as http:
        load.began = time.time()
        load.before = await page(http)
        load.answered = [Client(body, key) for key, body in answered_bodies()]
        watching = asyncio.create_task(watch(http, load))
        await asyncio.gather(*(stream(http, client) for client in load.answered))
        watching.cancel()
        load.after = await settled(http)
        for key, body in ended_bodies():
            load.ended.append(client := Client(body, key))
            await stream(http, client)
        leaving = Client({"prompt": [5, 6], "max_tokens": 200, "ignore_eos": True}, "key-a")
        await stream(http, leaving, leave_after=3)
        load.ended.append(leaving)
        bodies = crowd_bodies()
        for part in (bodies[:20], bodies[20:]):
            crowd = [Client(body, key) for key, body in part]
            await asyncio.gather(*(stream(http, client) for client in crowd))
            load.crowd += crowd
        load.end = await settled(http)


async def page(http: httpx.AsyncClient) -> Page:
    answer = await http.get("/metrics", headers={"Authorization": "Bearer key-watch"})
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


async def settled(http: httpx.AsyncClient) -> Page:
    """Once nothing runs, and the other frontend has told its counts, as it does each second."""
    while (now := await page(http))("vllm:num_requests_running"):
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.2)
    assert not now("vllm:num_requests_waiting")
    return await page(http)


async def watch(http: httpx.AsyncClient, load: Load) -> None:
    while True:
        load.during.append(await page(http))
        await asyncio.sleep(0.1)


async def stream(http: httpx.AsyncClient, client: Client, leave_after: int | None = None) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True}
    body = {"temperature": 0, **client.body, **options}
    headers = {"Authorization": f"Bearer {client.key}"}
    client.sent = time.monotonic()
    async with http.stream("POST", "/v1/completions", json=body, headers=headers) as answer:
        client.status = answer.status_code
        client.said = int(answer.request.headers["content-length"])
        if answer.status_code != 200:
            client.code = json.loads(await answer.aread())["error"]["code"]
            return
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                take(client, json.loads(line[6:]))
            if leave_after is not None and len(client.choices.get(0, Choice()).ids) >= leave_after:
                return
        client.heard = answer.num_bytes_downloaded


def take(client: Client, event: dict[str, Any]) -> None:
    now = time.monotonic()
    if "error" in event:
        client.code = event["error"]["code"]
        return
    for one in event["choices"]:
        choice = client.choices.setdefault(one["index"], Choice())
        ids = one.get("token_ids") or []
        choice.ids += ids
        choice.times += [now] * len(ids)
        choice.reason = one["finish_reason"] or choice.reason
    client.usage = event.get("usage") or client.usage


def codes(clients: list[Client]) -> Counter[str | None]:
    return Counter(client.code for client in clients)
