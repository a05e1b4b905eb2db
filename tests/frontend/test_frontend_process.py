"""The frontend as a process: handshake, real sockets, limits of the protocol, and its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import openai
import pytest
from front_process import HttpProcess, ScriptedScheduler, frontend_process
from front_tokenizers import load_byte_level

from octavo.shared.process import Condition

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:  # a short path: ipc addresses are limited
        yield Path(name)


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[tuple[HttpProcess, ScriptedScheduler]]:
    tokenizer = load_byte_level(folder / "model")
    reply = tokenizer.encode("Hello 😀 world", add_special_tokens=False)
    with frontend_process(
        folder, folder / "model", reply, tokenizer.vocab_size, shutdown_timeout=0.5
    ) as (child, scheduler):
        check_opening(child)
        child.tell(Condition("ready"))
        assert child.wait_ready().state == "ready"
        assert httpx.get(f"{child.url}/health").status_code == 200
        yield child, scheduler


def check_opening(child: HttpProcess) -> None:
    """It answers before the engine is there: that it is not."""
    starting = httpx.get(f"{child.url}/health", timeout=20)
    assert (starting.status_code, starting.json()["state"]) == (503, "starting")
    child.tell(Condition("loading", "loading weights 45 %"))
    until(lambda: httpx.get(f"{child.url}/health/live").json()["state"] == "loading")
    assert httpx.get(f"{child.url}/health/live").status_code == 200
    for path in ("/health", "/health/ready", "/ping"):
        waits = httpx.get(f"{child.url}{path}")
        assert waits.status_code == 503 and waits.headers["retry-after"]
        assert waits.json()["progress"] == "loading weights 45 %"
        assert waits.json()["error"]["code"] == "loading"
    for path in ("/v1/models", "/metrics", "/nothing"):
        waits = httpx.get(f"{child.url}{path}")
        assert waits.status_code == 503 and waits.headers["retry-after"]
        assert waits.json()["error"]["code"] == "loading"


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def started_stream(child: HttpProcess) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", child.port, timeout=20)
    body = json.dumps({"messages": HI, "stream": True})
    connection.request("POST", "/v1/chat/completions", body)
    response = connection.getresponse()
    assert response.readline().startswith(b"data: ")
    try:
        yield response
    finally:
        response.close()
        connection.close()


def exchange(child: HttpProcess, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", child.port), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


Served = tuple[HttpProcess, ScriptedScheduler]


def test_openai_sdk(served: Served) -> None:
    child, _ = served
    with openai.OpenAI(base_url=f"{child.url}/v1", api_key="none", max_retries=0) as client:
        chat = client.chat.completions.create(model="tiny", messages=HI, n=2)  # type: ignore[arg-type]
        assert [choice.message.content for choice in chat.choices] == ["Hello 😀 world"] * 2
        stream = client.completions.create(
            model="tiny", prompt="x", stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert "".join(c.text for chunk in chunks for c in chunk.choices) == "Hello 😀 world"
        assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 1
        with pytest.raises(openai.NotFoundError) as failure:
            client.models.retrieve("other")
        assert failure.value.code == "model_not_found"


def test_a_connection_that_closes_aborts(served: Served) -> None:
    child, scheduler = served
    scheduler.endless = True
    before = len(scheduler.aborted)
    with started_stream(child):
        pass
    until(lambda: len(scheduler.aborted) > before)
    scheduler.endless = False
    assert scheduler.aborted[-1] == scheduler.submits[-1].request_id


def resident(child: HttpProcess) -> int:
    """Bytes."""
    pages = Path(f"/proc/{child.process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def test_a_client_that_leaves_too_much_unread_is_cut_off(served: Served) -> None:
    """Long before it counts as stalled. Whoever reads is not, however fast tokens come."""
    child, scheduler = served
    scheduler.endless, scheduler.at_once = True, 200
    before = resident(child)
    with stalled(child) as silent:
        until(lambda: bool(scheduler.submits) and scheduler.submits[-1].sampling.logprobs == 20)
        request_id = scheduler.submits[-1].request_id
        with started_stream(child) as response:
            for _ in range(400):
                until(lambda: bool(response.readline()))
            until(lambda: request_id in scheduler.aborted, 30)
            assert response.readline()
        assert cut_off(silent)
    scheduler.endless, scheduler.at_once = False, 1
    until(lambda: scheduler.submits[-1].request_id in scheduler.aborted)
    assert resident(child) - before < 16 << 20


@contextlib.contextmanager
def stalled(child: HttpProcess) -> Iterator[socket.socket]:
    """A client of a stream with many bytes that reads none."""
    body = {"prompt": "x", "stream": True, "logprobs": 20, "max_tokens": 90_000}
    data = json.dumps(body).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", child.port))
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
            % (len(data), data)
        )
        yield client


def cut_off(client: socket.socket) -> bool:
    """By a reset: what is unread is gone."""
    established = 1
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != established


def test_a_body_over_the_limit_gets_its_answer(served: Served) -> None:
    child, _ = served
    response = httpx.post(f"{child.url}/v1/completions", content=b"x" * (10 * 2**20))
    assert response.status_code == 413
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    ],
)
def test_heads_beyond_the_limits(served: Served, request_bytes: bytes) -> None:
    child, _ = served
    head, _, body = exchange(child, request_bytes).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def test_a_head_that_never_ends_is_cut_off(served: Served) -> None:
    child, _ = served
    with socket.create_connection(("127.0.0.1", child.port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\na: ")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                connection.sendall(b"b" * 65536)


def chats(scheduler: ScriptedScheduler) -> int:
    """As the frontend last told."""
    routes = scheduler.counts[-1].counts.routes
    return sum(one.number for one in routes if one.handler == "/v1/chat/completions")


def test_sigterm_ends_streams_with_an_event_and_the_process_with_zero(served: Served) -> None:
    child, scheduler = served
    told = len(scheduler.counts)
    until(lambda: len(scheduler.counts) > told + 1)
    before = chats(scheduler)
    scheduler.endless = True
    with started_stream(child) as stream:
        child.process.send_signal(signal.SIGTERM)
        lines = [line for line in stream.read().split(b"\n") if line]
    assert json.loads(lines[-1].removeprefix(b"data: "))["error"]["code"] == "engine_dead"
    assert child.process.wait(10) == 0
    until(lambda: chats(scheduler) == before + 1)  # its last words


def test_sigterm_before_the_engine_is_ready(tmp_path: Path) -> None:
    tokenizer = load_byte_level(tmp_path / "model")
    with (
        tempfile.TemporaryDirectory() as name,
        frontend_process(Path(name), tmp_path / "model", [], tokenizer.vocab_size) as (child, _),
    ):
        assert httpx.get(f"{child.url}/health", timeout=20).status_code == 503
        child.process.send_signal(signal.SIGTERM)
        assert child.process.wait(10) == 0


def test_a_model_without_tokenizer_is_a_failed_start(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        frontend_process(Path(name), tmp_path, [], 8) as (child, _),
    ):
        status = child.wait_ready()
        assert (status.state, status.exit_code) == ("failed", 2)
        assert "tokenizer.json" in status.message
        assert child.process.wait(10) == 2
