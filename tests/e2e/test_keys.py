"""A key file with real processes: limits that hold for all frontends, changes without a restart."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from octavo_server import Server, wait_for

FILE = """
[keys.alice]
key = "one"
requests_per_minute = 10
[keys.bob]
key = "two"
max_concurrent = 3
"""
SHORT = {"prompt": "1 + 1 =", "max_tokens": 2}


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def server(key_file: Path) -> Iterator[Server]:
    server = Server("--device", "cpu", "--frontends", "2", "--api-key-file", str(key_file))
    server.wait_ready()
    yield server
    assert server.stop() == 0


def ask(server: Server, key: str, **fields: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    body = SHORT | fields
    return httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=60)


def test_a_rate_holds_for_all_frontends_together(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(server, "one"), range(24)))
    assert Counter(one.status_code for one in answers) in ({200: 10, 429: 14}, {200: 11, 429: 13})
    refused = next(one for one in answers if one.status_code == 429)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 6


def test_so_many_at_once(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        long = [pool.submit(ask, server, "two", max_tokens=200, ignore_eos=True) for _ in range(8)]
        statuses = Counter(one.result().status_code for one in long)
    assert statuses[200] >= 3 and statuses[429] >= 1 and len(statuses) == 2
    assert ask(server, "two").status_code == 200


def test_a_change_takes_effect_while_streams_go_on(server: Server, key_file: Path) -> None:
    body = SHORT | {"max_tokens": 300, "ignore_eos": True, "stream": True}
    headers = {"Authorization": "Bearer two"}
    url = f"{server.url}/v1/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data: ")
        other = key_file.with_suffix(".new")
        other.write_text('[keys.carol]\nkey = "three"\n')
        os.replace(other, key_file)
        wait_for(lambda: {ask(server, "two").status_code for _ in range(6)} == {401}, 5)
        assert ask(server, "three").status_code == 200
        assert [line for line in lines if line][-1] == "data: [DONE]"
