"""Fields without effect: named in a header, or refused with --strict-requests."""

from __future__ import annotations

from typing import Any

import pytest
from front_engine import Frontend, run

from octavo.shared.text.tokenizer import Tokenizer

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HEADER = "x-octavo-ignored-fields"
HI = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, None),
        ({"temperature": 0, "metadata": None}, None),
        ({"service_tier": "auto", "metadata": {"a": 1}}, "service_tier, metadata"),
        ({"store": True, "service_tier": "auto", "bogus": 1}, "store, service_tier, bogus"),
        ({"bo gus": 1, "x": 2}, "x, ..."),
        ({"evil\r\nSet-Cookie: a": 1}, "..."),
        ({"x" * 65: 1}, "..."),
        ({f"f{i}": 1 for i in range(20)}, ", ".join(f"f{i}" for i in range(16)) + ", ..."),
        ({"length_penalty": 2.0}, "length_penalty"),
        ({"truncation_side": "right"}, "truncation_side"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_named_in_the_header(
    tokenizer: Tokenizer, fields: dict[str, Any], named: str | None, stream: bool
) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(CHAT, messages=HI, stream=stream, **fields)
        assert response.status_code == 200
        assert response.headers.get(HEADER) == named

    run(tokenizer, test)


def test_an_error_has_the_header_too(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(CHAT, messages=HI, metadata={}, model="none")
        assert (response.status_code, response.headers[HEADER]) == (404, "metadata")

    run(tokenizer, test)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"bogus": 1}, "bogus"),
        ({"bogus": None}, "bogus"),
        ({"messages": [{**HI[0], "mood": "good"}]}, "messages[0].mood"),
        ({"messages": [{"role": "user", "content": [{"text": "a", "b": 1}]}]}, None),
        ({"stream": True, "stream_options": {"verbose": True}}, "stream_options.verbose"),
        ({"evil\r\n": 1}, None),
    ],
)
def test_strict(tokenizer: Tokenizer, fields: dict[str, Any], param: str | None) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(CHAT, **{"messages": HI, **fields})
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, "unknown_field")
        if param is not None:
            assert error["param"] == param and param in error["message"]
        assert front.engine.submits == []

    run(tokenizer, test, strict_requests=True)


def test_strictness_leaves_known_fields_alone(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(
            CHAT,
            messages=HI,
            metadata={},
            tools=[{"function": {"name": "f"}}],
            tool_choice="none",
            logit_bias={"5": 1},
        )
        assert (response.status_code, response.headers[HEADER]) == (200, "metadata")

    run(tokenizer, test, strict_requests=True)


def test_request_id(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        for path, prompt in ((CHAT, {"messages": HI}), (COMPLETIONS, {"prompt": "a"})):
            response = await front.post(path, request_id="job:7", **prompt)
            assert response.json()["id"].partition("-")[2] == "job:7"
            assert response.headers["x-request-id"] == "job:7"
            assert front.engine.submits[-1].request_id != b"job:7"
        header = {"X-Request-Id": "theirs"}
        body = {"messages": HI, "request_id": "mine"}
        response = await front.client.post(CHAT, json=body, headers=header)
        assert response.headers.get_list("x-request-id") == ["theirs"]
        for bad in ("a b", "x" * 129, "a\n", "", "ä"):
            response = await front.post(CHAT, messages=HI, request_id=bad)
            assert response.json()["error"]["param"] == "request_id"

    run(tokenizer, test)


@pytest.mark.parametrize("strict", [False, True])
def test_bytes_that_are_no_text_in_an_unknown_field(tokenizer: Tokenizer, strict: bool) -> None:
    async def test(front: Frontend) -> None:
        for body in (b'{"prompt": "a", "x\xff": 1}', b'{"prompt": "a", "x": {"\xff": "\xff"}}'):
            response = await front.client.post(COMPLETIONS, content=body)
            assert response.status_code in ((400,) if strict else (200, 400))

    run(tokenizer, test, strict_requests=strict)
