"""A server's log has a line for each request's end, as JSON where asked, and never a prompt."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from octavo_server import Server, serving, wait_for

SECRET = "xylophone"


def lines_of(server: Server) -> list[dict[str, Any]]:
    """All of its log: nothing of it, of any process, may be anything but JSON."""
    found = [json.loads(line) for line in server.lines if not line.startswith("Ready in ")]
    assert all({"time", "level", "process", "message"} <= set(line) for line in found)
    return found


def requests_in(server: Server) -> list[dict[str, Any]]:
    return [line for line in lines_of(server) if "route" in line]


def leave(server: Server, body: dict[str, Any], received: int) -> None:
    """Ask, read so many bytes of the answer, and go."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        data = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        client.sendall(head.encode() + data)
        while received > 0:
            received -= len(client.recv(received))


@pytest.fixture(scope="module")
def logging_server() -> Iterator[Server]:
    with serving("--device", "cpu", "--log-format", "json") as server:
        yield server
        server.stop()
    assert lines_of(server)[-1]["message"] == "stopping"
    assert not any(SECRET in line or "xyzzy" in line for line in server.lines)


def test_access_lines(logging_server: Server) -> None:
    server, before = logging_server, len(requests_in(logging_server))
    asked = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 5}
    whole = server.post("/v1/chat/completions", asked)
    server.request("POST", "/v1/chat/completions", {**asked, "stream": True})
    server.request("POST", "/v1/completions", {"prompt": [SECRET], "n": 2, "max_tokens": 3})
    server.request("POST", "/v1/completions", {"prompt": 7.5})
    server.request("GET", f"/{SECRET}")
    for probe in ("/health", "/metrics", "/health/ready"):
        server.request("GET", probe)
    wait_for(lambda: len(requests_in(server)) == before + 5, 10)
    chat, stream, several, bad, unknown = requests_in(server)[before:]
    usage = whole["usage"]
    assert (chat["id"], chat["status"]) == (whole["id"], 200)
    assert (chat["method"], chat["route"]) == ("POST", "/v1/chat/completions")
    assert chat["prompt_tokens"] == stream["prompt_tokens"] == usage["prompt_tokens"]
    assert chat["output_tokens"] == usage["completion_tokens"]
    assert 0 < chat["ttft"] < chat["duration"] and 0 < stream["ttft"] < stream["duration"]
    assert several["output_tokens"] == 6
    assert (bad["status"], bad["id"], "ttft" in bad) == (400, "-", False)
    assert (unknown["status"], unknown["route"]) == (404, "none")


def test_who_leaves_and_what_is_no_request(logging_server: Server) -> None:
    server, before = logging_server, len(requests_in(logging_server))
    long = {"prompt": SECRET, "max_tokens": 1500, "ignore_eos": True}
    leave(server, {**long, "stream": True}, 300)
    wait_for(lambda: len(requests_in(server)) == before + 1, 10)
    leave(server, long, 0)
    wait_for(lambda: len(requests_in(server)) == before + 2, 10)
    for refused in (b"xyzzy\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(refused)
            assert b" 400 " in client.recv(100)
    wait_for(lambda: len(requests_in(server)) == before + 4, 10)
    stream, whole, *refusals = requests_in(server)[before:]
    assert (stream["status"], whole["status"]) == (200, 499)
    assert 0 < stream["output_tokens"] < 1500 > whole["output_tokens"]
    for line in refusals:
        assert (line["status"], line["method"], line["route"]) == (400, "OTHER", "none")


def test_without_access_lines_and_as_text() -> None:
    with serving("--device", "cpu", "--no-access-log") as server:
        server.post("/v1/completions", {"prompt": "a", "max_tokens": 2})
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"xyzzy\r\n\r\n")
            assert b" 400 " in client.recv(100)
        server.stop()
    assert not any("/v1/completions" in line or "status=" in line for line in server.lines)
