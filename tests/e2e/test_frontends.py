"""Several frontends behind one port and before one scheduler."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from octavo_server import Server, serving

CHAT = {"messages": [{"role": "user", "content": "What is 2 + 2?"}], "stream": True, "seed": 1}
ASK = {"X-Octavo-Resumable": "1"}
EVENT_ID = re.compile(r"^id: (\S+)\n", re.M)
ATTEMPTS = 200
"""The kernel gives a connection to whoever accepts first."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Server]:
    with serving("--device", "cpu", "--api-server-count", "2") as running:
        yield running


def streams_by_frontend(server: Server) -> dict[str, str]:
    """What a frontend's stream said, for each of the two."""
    found: dict[str, str] = {}
    for _ in range(ATTEMPTS):
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=CHAT, headers=ASK)
        found[answer.headers["x-octavo-stream"][:2]] = answer.text
        if len(found) == 2:
            return found
    raise RuntimeError(f"one frontend answered {ATTEMPTS} times: {list(found)}")


def test_all_serve_and_any_goes_on_with_a_stream(pair: Server) -> None:
    assert {"frontend-0", "frontend-1"} <= set(pair.children())
    for whole in streams_by_frontend(pair).values():
        first, *_, last = EVENT_ID.findall(whole)
        for _ in range(8):
            path = "/v1/chat/completions"
            rest = httpx.post(f"{pair.url}{path}", headers={"Last-Event-ID": first})
            assert rest.text == whole[whole.index("id: ", 4) :]
            assert EVENT_ID.findall(rest.text)[-1] == last


def test_a_metric_counts_for_all(pair: Server) -> None:
    name = "vllm:request_success_total"
    before = httpx.get(f"{pair.url}/metrics").text
    streams_by_frontend(pair)
    pair.wait_idle()
    texts = {httpx.get(f"{pair.url}/metrics").text for _ in range(10)}
    counts = {tuple(re.findall(rf"^{name}{{.*}} \S+$", text, re.M)) for text in texts}
    assert len(counts) == 1 and counts != {tuple(re.findall(rf"^{name}.*$", before, re.M))}
