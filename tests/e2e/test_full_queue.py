"""A queue that one key has filled, with real processes: another's requests get in all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from octavo_server import Server, serving, wait_for

FILE = """
[keys.large]
key = "one"
[keys.small]
key = "two"
[keys.watch]
key = "three"
scopes = ["metrics"]
"""
FLAGS = ("--device", "cpu", "--max-num-seqs", "1", "--max-queued-requests", "4")
SHORT = {"prompt": "1 + 1 =", "max_tokens": 2}
KEEP_ALIVE = 0.3
LONG = 1900


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    path.write_text(FILE)
    with serving(*FLAGS, "--frontends", "2", "--api-key-file", str(path)) as running:
        yield running


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its streams show soon that they are alive."""
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    path.write_text(FILE)
    flags = ("--api-key-file", str(path), "--sse-keep-alive-interval", str(KEEP_ALIVE))
    with serving(*FLAGS, *flags) as running:
        yield running


def ask(server: Server, key: str, **fields: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{server.url}/v1/completions"
    return httpx.post(url, json=SHORT | fields, headers=headers, timeout=60)


class Crowd:
    """Requests that are sent one after another, each once the one before is in its place."""

    def __init__(self, server: Server, pool: ThreadPoolExecutor) -> None:
        self._server = server
        self._pool = pool

    def send(self, key: str, waiting: int, **fields: object) -> Future[httpx.Response]:
        answer = self._pool.submit(ask, self._server, key, **fields)
        wait_for(lambda: answer.done() or gauge(self._server, "waiting") == waiting, 20)
        return answer


def gauge(server: Server, what: str) -> float:
    return page(server, f"vllm:num_requests_{what}")


def page(server: Server, name: str) -> float:
    """The sum of a metric's samples."""
    headers = {"Authorization": "Bearer three"}
    text = httpx.get(f"{server.url}/metrics", headers=headers, timeout=20).text
    lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@contextmanager
def full(server: Server) -> Iterator[Crowd]:
    """One of `large` runs, and does until this ends."""
    body = SHORT | {"max_tokens": LONG, "ignore_eos": True, "stream": True}
    headers = {"Authorization": "Bearer one"}
    url = f"{server.url}/v1/completions"
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(8))
        stream = httpx.stream("POST", url, json=body, headers=headers, timeout=60)
        lines = stack.enter_context(stream).iter_lines()
        assert next(lines).startswith("data: ")
        yield Crowd(server, pool)


def is_refusal(answer: httpx.Response) -> bool:
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (
        503,
        "overloaded_error",
        "overloaded",
    )
    assert answer.headers["x-should-retry"] == "true"
    return 1 <= int(answer.headers["retry-after"]) <= 60


def test_who_is_within_its_share_gets_in_and_others_are_told_properly(server: Server) -> None:
    with full(server) as crowd:
        first = crowd.send("one", 1)
        plain = crowd.send("one", 2)
        streamed = crowd.send("one", 3, stream=True)
        assert is_refusal(ask(server, "one")), "it has filled the queue"
        small = [crowd.send("two", 3) for _ in range(2)]
        assert is_refusal(plain.result()) and is_refusal(streamed.result())
        assert is_refusal(ask(server, "two")), "it has its share"
        assert not first.done()
    assert [one.result().status_code for one in (first, *small)] == [200, 200, 200]
    assert page(server, "octavo:displaced_requests_total") == 2
    assert page(server, "vllm:admission_rejections_total") == 4
    wait_for(lambda: not gauge(server, "running"), 10)
    assert ask(server, "one").status_code == 200


def test_a_request_of_several_sequences_is_refused_as_one(server: Server) -> None:
    with full(server) as crowd:
        several = crowd.send("one", 3, prompt=["a", "b", "c"])
        small = crowd.send("two", 1)
        assert is_refusal(several.result())
    assert small.result().status_code == 200
    wait_for(lambda: not gauge(server, "running") + gauge(server, "waiting"), 10)


def test_a_stream_that_has_shown_a_sign_of_life_ends_with_an_error_event(lively: Server) -> None:
    with full(lively) as crowd:
        crowd.send("one", 1)
        crowd.send("one", 2)
        body, headers = SHORT | {"stream": True}, {"Authorization": "Bearer one"}
        url = f"{lively.url}/v1/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as stream:
            lines = stream.iter_lines()
            assert stream.status_code == 200 and next(lines).startswith(":")
            small = crowd.send("two", 3)
            events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        assert len(events) == 1 and json.loads(events[0])["error"]["code"] == "overloaded"
    assert small.result().status_code == 200
