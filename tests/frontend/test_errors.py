"""Every refusal: its status, and OpenAI's error JSON that names the field."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from front_engine import MAX_MODEL_LEN, Frontend, RawCall, parse_events, run
from front_tokenizers import byte_level_folder

from octavo.services.frontend import edge
from octavo.shared.text.tokenizer import Tokenizer

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HI = [{"role": "user", "content": "Hi"}]


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


F: Any = {"type": "function", "function": {"name": "f"}}
BAD_CHATS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "function", "content": "x"}]}, "messages"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0]",
    ),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": MAX_MODEL_LEN}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"min_tokens": 9, "max_tokens": 3}, "min_tokens"),
    ({"seed": 2**64}, "seed"),
    ({"stop": [""]}, "stop[0]"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"stop_token_ids": [10**6]}, "stop_token_ids"),
    ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
    ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ({"cache_salt": "x" * 129}, "cache_salt"),
    ({"priority": 2**40}, "priority"),
    ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
    ({"chat_template_kwargs": {"messages": "x"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"x": [1]}}, "chat_template_kwargs[...]"),
    ({"tools": [{}]}, "tools[0]"),
    ({"tools": [{"function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [F, F]}, "tools"),
    ({"tools": [F]}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [F], "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
    ({"tools": [F], "tool_choice": "perhaps"}, "tool_choice"),
    ({"thinking_token_budget": 3}, "thinking_token_budget"),
    *(
        ({name: value}, name)
        for name, value in {
            "guided_json": {"type": "object"},
            "guided_regex": "a",
            "guided_choice": ["a"],
            "guided_grammar": "a",
            "chat_template": "x",
            "functions": [{}],
            "audio": {"voice": "x"},
            "logprob_token_ids": [1],
        }.items()
    ),
]


@pytest.mark.parametrize(("fields", "param"), BAD_CHATS)
def test_bad_chats(tokenizer: Tokenizer, fields: dict[str, Any], param: str) -> None:
    async def test(front: Frontend) -> None:
        error = error_of(await front.post(CHAT, **{"messages": HI, **fields}), 400)
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert front.engine.submits == []

    run(tokenizer, test)


BAD_COMPLETIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": ["a", [1]]}, "prompt"),
    ({"prompt": [10**6]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": ["a"] * 65}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": "", "add_special_tokens": False}, "prompt"),
    ({"prompt": "a", "logprobs": 21}, "logprobs"),
    ({"prompt": "a", "best_of": 3}, "best_of"),
    ({"prompt": "a", "suffix": "b"}, "suffix"),
    ({"prompt": "a", "prompt_embeds": "b"}, "prompt_embeds"),
    ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
]


@pytest.mark.parametrize(("fields", "param"), BAD_COMPLETIONS)
def test_bad_completions(tokenizer: Tokenizer, fields: dict[str, Any], param: str) -> None:
    async def test(front: Frontend) -> None:
        error = error_of(await front.post(COMPLETIONS, **fields), 400)
        assert error["param"] == param
        assert front.engine.submits == []

    run(tokenizer, test)


def test_prompt_lengths_at_the_limit(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        fits = await front.post(COMPLETIONS, prompt=[5] * (MAX_MODEL_LEN - 1), max_tokens=1)
        assert fits.status_code == 200
        over = await front.post(COMPLETIONS, prompt=[5] * (MAX_MODEL_LEN + 6), max_tokens=1)
        error = error_of(over, 400)
        assert error["code"] == "context_length_exceeded"
        for number in (MAX_MODEL_LEN + 6, MAX_MODEL_LEN, 7):
            assert str(number) in error["message"]
        default = await front.post(COMPLETIONS, prompt=[5] * (MAX_MODEL_LEN - 4))
        assert error_of(default, 400)["param"] == "max_tokens"

    run(tokenizer, test)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"messages": "\xff\xfe"}', b'{"x":' + b"[" * 99_999, b'"\\ud800"'],
)
def test_bodies_that_are_no_json_object(tokenizer: Tokenizer, body: bytes) -> None:
    async def test(front: Frontend) -> None:
        error_of(await front.client.post(CHAT, content=body), 400)

    run(tokenizer, test)


def test_unknown_model_path_and_method(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        error = error_of(await front.post(CHAT, model="gpt-9", messages=HI), 404)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        error_of(await front.client.get("/v1/nothing"), 404)
        error_of(await front.client.get("/health/"), 404)
        wrong = await front.client.get(CHAT)
        error_of(wrong, 405)
        assert wrong.headers["allow"] == "POST"

    run(tokenizer, test)


def test_a_body_over_the_limit_is_read_but_not_kept(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = b'{"prompt": "' + b"x" * edge.MAX_BODY_BYTES + b'"}'
        response = await front.client.post(COMPLETIONS, content=body)
        error_of(response, 413)

    run(tokenizer, test)


def test_a_body_announced_as_huge_is_not_awaited(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        call = RawCall(front.app, CHAT, b"{", [(b"content-length", b"999999999999")])
        await call.task
        assert call.sent[0]["status"] == 413

    run(tokenizer, test)


def test_a_body_that_never_ends_times_out(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(front: Frontend) -> None:
        monkeypatch.setattr(edge, "BODY_TIMEOUT", 0.02)
        call = RawCall(front.app, CHAT, b"{")
        call._incoming.get_nowait()
        await call.task
        assert call.sent[0]["status"] == 400

    run(tokenizer, test)


def test_keys(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        async def status(path: str, key: str | None) -> int:
            headers = {} if key is None else {"Authorization": key}
            return (await front.client.get(path, headers=headers)).status_code

        paths = ("/v1/models", "/metrics", "/version", "/load", "/ping", "/nothing", "/health/x")
        for path in paths:
            for key in (None, "Bearer wrong", "Bearer ", "Basic first", "first", "Bearer firs"):
                assert await status(path, key) == 401, (path, key)
        error = error_of(await front.client.get("/v1/models"), 401)
        assert error["code"] == "invalid_api_key"
        assert await status("/v1/models", "Bearer first") == 200
        assert await status("/v1/models", "bearer second") == 200
        assert await status("/health", None) == 200

    run(tokenizer, test, api_key=["first", "second"])


def test_each_key_has_a_prefix_cache_of_its_own(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        for key, salt in (("first", "x"), ("second", "x"), ("first", None), ("first", "x")):
            headers = {"Authorization": f"Bearer {key}"}
            body = {"messages": HI, "cache_salt": salt}
            await front.client.post(CHAT, json=body, headers=headers)
        first, second, plain, again = (submit.cache_salt for submit in front.engine.submits)
        assert len({first, second, plain}) == 3 and again == first

    run(tokenizer, test, api_key=["first", "second"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("code", "status", "retry"),
    [
        ("overloaded", 503, "true"),
        ("engine_dead", 503, "true"),
        ("out_of_memory", 503, "false"),
        ("too_long", 400, None),
        ("numerical_error", 500, "false"),
        ("request_quarantined", 500, "false"),
        ("internal_error", 500, None),
        ("deadline_exceeded", 504, "false"),
    ],
)
def test_the_engines_errors(
    tokenizer: Tokenizer, code: str, status: int, retry: str | None, stream: bool
) -> None:
    """And whether an SDK should try again by itself."""

    async def test(front: Frontend) -> None:
        front.engine.error, front.engine.retry_after = (code, None), 7
        response = await front.post(CHAT, messages=HI, stream=stream)
        error = error_of(response, status)
        assert response.headers.get("retry-after") == (
            {"engine_dead": "1"}.get(code, "7") if status == 503 else None
        )
        assert response.headers.get("x-should-retry") == retry
        assert error["code"] == {"too_long": "context_length_exceeded"}.get(code, code)

    run(tokenizer, test)


def test_an_error_in_mid_stream_is_an_event(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        front.engine.error = ("numerical_error", None)
        call = asyncio.create_task(front.post(CHAT, messages=HI, stream=True, n=2))
        await front.settle()
        first, second = front.engine.submits
        front.engine.token(first, 70, first=True)
        await front.settle()
        front.engine.fail(first)
        response = await call
        *_, last = parse_events(response.text)
        assert last["error"]["code"] == "numerical_error"
        await front.settle()
        assert front.engine.aborted == [second.request_id]

    run(tokenizer, test)


@pytest.mark.parametrize("stream", [False, True])
def test_a_bug_of_ours_is_a_500_without_its_text(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("secret")

    async def test(front: Frontend) -> None:
        from octavo.shared.text.output import OutputAssembler

        monkeypatch.setattr(OutputAssembler, "push", broken)
        response = await front.post(CHAT, messages=HI, stream=stream)
        assert error_of(response, 500)["code"] == "internal_error"
        assert "secret" not in response.text
        await front.settle()
        assert front.engine_client.num_live == 0

    run(tokenizer, test)


def test_a_model_without_template_refuses_chats(tmp_path_factory: Any) -> None:
    bare = Tokenizer.load(byte_level_folder(tmp_path_factory.mktemp("bare"), None))

    async def test(front: Frontend) -> None:
        error = error_of(await front.post(CHAT, messages=HI), 400)
        assert "chat template" in error["message"]

    run(bare, test)


def test_request_ids_are_echoed_when_harmless(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        async def echoed(given: str) -> str | None:
            response = await front.client.get("/version", headers={"X-Request-Id": given})
            given_back: str | None = response.headers.get("x-request-id")
            return given_back

        assert await echoed("abc-1.2_3") == "abc-1.2_3"
        assert await echoed("x" * 129) is None
        assert await echoed("a b") is None
        wrong = await front.client.get("/nothing", headers={"X-Request-Id": "mine"})
        assert wrong.headers["x-request-id"] == "mine"

    run(tokenizer, test)
