"""A server's log has a line for each request's end, as JSON where asked, and never a prompt."""

from __future__ import annotations

import json
from typing import Any

from octavo_server import Server, serving, wait_for

SECRET = "xylophone"


def requests_in(server: Server) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.lines if line.startswith("{")]
    return [line for line in lines if "route" in line]


def test_access_lines() -> None:
    with serving("--device", "cpu", "--log-format", "json") as server:
        asked = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 5}
        whole = server.post("/v1/chat/completions", asked)
        server.request("POST", "/v1/chat/completions", {**asked, "stream": True})
        server.request("POST", "/v1/completions", {"prompt": [SECRET], "n": 2, "max_tokens": 3})
        server.request("POST", "/v1/completions", {"prompt": 7.5})
        server.request("GET", f"/{SECRET}")
        for probe in ("/health", "/metrics", "/health/ready"):
            server.request("GET", probe)
        wait_for(lambda: len(requests_in(server)) == 5, 10)
        chat, stream, several, bad, unknown = requests_in(server)
        server.stop()
    usage = whole["usage"]
    assert (chat["id"], chat["status"]) == (whole["id"], 200)
    assert (chat["method"], chat["route"]) == ("POST", "/v1/chat/completions")
    assert chat["prompt_tokens"] == stream["prompt_tokens"] == usage["prompt_tokens"]
    assert chat["output_tokens"] == usage["completion_tokens"]
    assert 0 < chat["ttft"] < chat["duration"] and 0 < stream["ttft"] < stream["duration"]
    assert several["output_tokens"] == 6
    assert (bad["status"], bad["id"], "ttft" in bad) == (400, "-", False)
    assert (unknown["status"], unknown["route"]) == (404, "none")
    assert not any(SECRET in line for line in server.lines)


def test_without_access_lines_and_as_text() -> None:
    with serving("--device", "cpu", "--no-access-log") as server:
        server.post("/v1/completions", {"prompt": "a", "max_tokens": 2})
        server.stop()
    assert not any("/v1/completions" in line for line in server.lines)
