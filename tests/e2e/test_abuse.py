"""Hostile and careless clients: right errors, nothing leaked, the next request correct."""

from __future__ import annotations

import json
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

from octavo_server import Server

LONG_STREAM = {
    "model": "demo",
    "prompt": "Tell me",
    "max_tokens": 1500,
    "ignore_eos": True,
    "stream": True,
}


def ask(server: Server) -> str:
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "What is 12 + 30?"}],
        "temperature": 0,
    }
    return str(server.post("/v1/chat/completions", body)["choices"][0]["message"]["content"])


def leave_midway(server: Server, number: int) -> bytes:
    """Start a stream and go: before, at or after the first bytes, by FIN or by RST."""
    body = json.dumps(LONG_STREAM).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        if number % 4 == 0:
            connection.sendall(head.encode() + body[: len(body) // 2])
            return b""
        connection.sendall(head.encode() + body)
        seen = connection.recv(400 if number % 4 == 1 else 1)
        if number % 4 == 3:
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return seen


def test_200_disconnects_leave_nothing(server: Server) -> None:
    before = ask(server)
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda number: leave_midway(server, number), range(200)))
    server.wait_idle()
    assert ask(server) == before


def test_prompt_lengths(server: Server) -> None:
    limit = json.loads(server.request("GET", "/v1/models")[1])["data"][0]["max_model_len"]

    def status(length: int, max_tokens: int = 1) -> tuple[int, dict[str, object]]:
        body = {"model": "demo", "prompt": [5] * length, "max_tokens": max_tokens}
        code, data = server.request("POST", "/v1/completions", body)
        return code, json.loads(data)

    assert status(0)[0] == 400
    assert status(1)[0] == 200
    assert status(limit - 1)[0] == 200
    for length in (limit, limit + 1):
        code, answer = status(length)
        assert code == 400
        error = answer["error"]
        assert isinstance(error, dict)
        assert error["code"] == "context_length_exceeded"
        assert str(limit) in error["message"]
    server.wait_idle()


def test_bad_bytes(server: Server) -> None:
    for body in (b"\xff\xfe{", b'{"prompt": "\xff"}', b"[]", b"", b"null", b"{" * 100_000):
        code, data = server.request("POST", "/v1/completions", body)
        assert code == 400
        assert json.loads(data)["error"]["type"] == "invalid_request_error"


def test_ten_megabytes(server: Server) -> None:
    body = json.dumps({"model": "demo", "prompt": "x" * (10 << 20)}).encode()
    try:
        code, data = server.request("POST", "/v1/completions", body)
    except (BrokenPipeError, ConnectionResetError):
        pass
    else:
        assert code == 413
        assert json.loads(data)["error"]["message"]
    assert ask(server)
