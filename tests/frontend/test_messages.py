"""The Anthropic Messages API over the scripted engine, and over scripted chats."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from front_chat_script import HEAD, ScriptedChat, answering, played, tool_delta
from front_engine import CACHED_TOKENS, Frontend, run

from octavo.services.frontend.anthropic.events import MessageWriter
from octavo.services.frontend.anthropic.from_chat import message_of
from octavo.services.frontend.anthropic.schema import CountTokensRequest, MessagesRequest
from octavo.services.frontend.anthropic.to_chat import chat_request
from octavo.services.frontend.replies import (
    ChatChoice,
    ChatCompletion,
    ChatDelta,
    FunctionCall,
    Message,
    ToolCall,
)
from octavo.shared.errors import InvalidRequest
from octavo.shared.messages import unpack
from octavo.shared.text.tokenizer import Tokenizer

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
HI: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "Hi"}],
}
WEATHER = {"name": "weather", "description": "d", "input_schema": {"type": "object"}}


def events_of(text: str) -> list[tuple[str, Any]]:
    """(event name, data) of every event."""
    found = []
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            name, data = block.split("\n", 1)
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def chat_from(**fields: Any) -> dict[str, Any]:
    """The chat that a Messages request becomes, with its unset fields left out."""
    kind = MessagesRequest if "max_tokens" in HI | fields else CountTokensRequest
    chat = chat_request(msgspec.convert(HI | fields, kind))
    return {k: v for k, v in msgspec.to_builtins(chat).items() if v is not None}


def turns_of(*messages: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    chat = chat_from(messages=list(messages), **fields)
    return [{k: v for k, v in turn.items() if v is not None} for turn in chat["messages"]]


def test_the_whole_answer(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(MESSAGES, **HI)
        body = response.json()
        prompt = tokenizer.apply_chat_template(HI["messages"])
        assert response.status_code == 200, response.text
        assert body.pop("id").startswith("msg_")
        assert body == {
            "type": "message",
            "role": "assistant",
            "model": "tiny",
            "content": [{"type": "text", "text": "Hello world"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": len(prompt) - CACHED_TOKENS,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": CACHED_TOKENS,
                "output_tokens": len(tokenizer.encode("Hello world", False)) + 1,
            },
        }

    run(tokenizer, test)


def test_the_streamed_answer(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(MESSAGES, **HI, stream=True)
        events = events_of(response.text)
        assert all(name == data["type"] for name, data in events)
        names = [name for name, _ in events if name != "content_block_delta"]
        assert names == [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
        start, end = events[0][1]["message"], events[-2][1]
        assert start["content"] == [] and start["stop_reason"] is None
        texts = [d["delta"]["text"] for name, d in events if name == "content_block_delta"]
        assert "".join(texts) == "Hello world" and len(texts) > 1
        assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
        whole = (await front.post(MESSAGES, **HI)).json()
        assert end["usage"] == whole["usage"]
        assert start["usage"]["input_tokens"] == end["usage"]["input_tokens"]

    run(tokenizer, test)


@pytest.mark.parametrize("stream", [False, True])
def test_how_it_stopped(tokenizer: Tokenizer, stream: bool) -> None:
    async def stopped(front: Frontend, **fields: Any) -> tuple[str, str | None]:
        response = await front.post(MESSAGES, **(HI | fields), stream=stream)
        body = events_of(response.text)[-2][1]["delta"] if stream else response.json()
        return body["stop_reason"], body["stop_sequence"]

    async def test(front: Frontend) -> None:
        assert await stopped(front, stop_sequences=["x", "wor"]) == ("stop_sequence", "wor")
        assert await stopped(front, max_tokens=1) == ("max_tokens", None)

    run(tokenizer, test)


def test_every_field_reaches_the_engine(tokenizer: Tokenizer) -> None:
    fields = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "max_tokens": 3}

    async def test(front: Frontend) -> None:
        extra = {"metadata": {"user_id": "u"}, "service_tier": "auto", "stop_sequences": ["x"]}
        response = await front.post(MESSAGES, **(HI | fields | extra), system="Be brief.")
        assert response.status_code == 200, response.text
        [submit] = front.engine.submits
        for name, value in fields.items():
            assert getattr(submit.sampling, name) == value, name
        assert submit.sampling.stop == ["x"]
        told = [{"role": "system", "content": "Be brief."}, *HI["messages"]]
        assert unpack(submit.prompt_ids).tolist() == tokenizer.apply_chat_template(told)

    run(tokenizer, test)


def test_an_assistants_last_turn_is_continued(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        begun = [*HI["messages"], {"role": "assistant", "content": "Well"}]
        response = await front.post(MESSAGES, **(HI | {"messages": begun}))
        assert response.json()["content"] == [{"type": "text", "text": "Hello world"}]
        [submit] = front.engine.submits
        assert tokenizer.decode(unpack(submit.prompt_ids).tolist()).endswith("Well")

    run(tokenizer, test)


def test_count_tokens_counts_what_would_be_sent(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = {k: v for k, v in HI.items() if k != "max_tokens"} | {"system": "Be brief."}
        counted = await front.post(COUNT, **body)
        used = (await front.post(MESSAGES, **body, max_tokens=1)).json()["usage"]
        read = used["input_tokens"] + used["cache_read_input_tokens"]
        assert counted.json() == {"input_tokens": read}
        assert len(front.engine.submits) == 1

    run(tokenizer, test)


def test_a_conversation_with_tools() -> None:
    turns = turns_of(
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "?"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "content": [{"type": "text", "text": "no"}],
                    "is_error": True,
                },
                {"type": "text", "text": "and?"},
            ],
        },
        {"role": "user", "content": "So?"},
        system=[{"type": "text", "text": "s1"}, {"type": "text", "text": "s2"}],
    )
    call = {"name": "weather", "arguments": '{"city":"Ulm"}'}
    assert turns == [
        {"role": "system", "content": "s1\ns2"},
        {"role": "user", "content": "a\nb"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning": "hm",
            "tool_calls": [{"id": "t1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "t2", "content": "Error: no"},
        {"role": "user", "content": "and?\nSo?"},
    ]


def test_tools_become_functions() -> None:
    chat = chat_from(tools=[WEATHER | {"type": "custom", "strict": True}])
    function = {"name": "weather", "description": "d", "parameters": {"type": "object"}}
    assert chat["tools"] == [{"type": "function", "function": function | {"strict": True}}]


@pytest.mark.parametrize(
    ("choice", "asked"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any", "disable_parallel_tool_use": True}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "w"}, {"type": "function", "function": {"name": "w"}}),
    ],
)
def test_tool_choices(choice: dict[str, Any], asked: Any) -> None:
    assert chat_from(tools=[WEATHER], tool_choice=choice)["tool_choice"] == asked


def test_thinking_and_output_reach_the_chat() -> None:
    config = {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}}
    chat = chat_from(thinking={"type": "enabled", "budget_tokens": 9}, output_config=config)
    assert chat["thinking_token_budget"] == 9
    assert chat["chat_template_kwargs"] == {"enable_thinking": True}
    assert chat["reasoning_effort"] == "low"
    assert chat["response_format"]["json_schema"]["schema"] == {"type": "object"}
    silent = chat_from(thinking={"type": "disabled", "budget_tokens": 9})
    assert silent["chat_template_kwargs"] == {"enable_thinking": False}
    assert "thinking_token_budget" not in silent


IMAGE = {"type": "image", "source": {"type": "url", "url": "http://x"}}
USE = {"type": "tool_use", "id": "t", "name": "n", "input": {}}


def user(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"model": None}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    (
        user({"type": "text", "text": "a"}, IMAGE),
        "messages[0].content[1]: Content blocks of type i",
    ),
    (user({"type": "video"}), "messages[0].content[0]"),
    (user(USE), "messages[0].content[0]"),
    (
        user({"type": "tool_result", "tool_use_id": "t", "content": [IMAGE]}),
        "messages[0].content[0].content[0]",
    ),
    ({"messages": [*HI["messages"], {"role": "assistant", "content": [USE]}]}, "messages"),
    ({"temperature": -1}, "temperature"),
    ({"stop_sequences": [""]}, "stop_sequences"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
    ({"tools": [{"name": "n"}]}, "tools[0]"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "thinking.budget_tokens"),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "wrong"}}}},
        "output_config.format",
    ),
    ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
    ({"max_tokens": 500}, "max_tokens"),
]


@pytest.mark.parametrize(("fields", "named"), BAD)
def test_bad_requests(tokenizer: Tokenizer, fields: dict[str, Any], named: str) -> None:
    async def test(front: Frontend) -> None:
        body = {k: v for k, v in (HI | fields).items() if v is not None}
        response = await front.post(MESSAGES, **body)
        assert response.status_code == 400, response.text
        assert set(response.json()) == {"type", "error"} and response.json()["type"] == "error"
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error" and named in error["message"]
        assert front.engine.submits == []

    run(tokenizer, test)


def test_every_error_has_the_form(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        def kind(response: Any) -> tuple[int, str]:
            return response.status_code, response.json()["error"]["type"]

        assert kind(await front.post(MESSAGES, **(HI | {"model": "no"}))) == (
            404,
            "not_found_error",
        )
        assert kind(await front.client.get(MESSAGES)) == (405, "invalid_request_error")
        assert kind(await front.client.post(MESSAGES, content=b"{")) == (
            400,
            "invalid_request_error",
        )
        assert kind(await front.post("/v1/messages/batches")) == (404, "not_found_error")
        front.engine.error = ("overloaded", None)
        assert kind(await front.post(MESSAGES, **HI)) == (503, "overloaded_error")
        front.engine.error = ("internal_error", None)
        assert kind(await front.post(MESSAGES, **HI)) == (500, "api_error")

    run(tokenizer, test)


def test_an_error_within_a_stream_is_an_event(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = asyncio.create_task(front.post(MESSAGES, **HI, stream=True))
        await front.settle()
        [submit] = front.engine.submits
        front.engine.token(submit, front.engine.reply[0], first=True)
        await front.settle()
        front.engine.fail(submit)
        name, data = events_of((await call).text)[-1]
        assert name == data["type"] == "error" and data["error"]["type"] == "api_error"

    run(tokenizer, test)


KEYS = [
    ({"x-api-key": "right"}, 200),
    ({"x-api-key": " right "}, 200),
    ({"x-api-key": "wrong"}, 401),
    ({"x-api-key": ""}, 401),
    ({}, 401),
    ({"Authorization": "Bearer right"}, 200),
    ({"Authorization": "Bearer wrong", "x-api-key": "right"}, 401),
    ({"Authorization": "Basic right"}, 401),
]


@pytest.mark.parametrize(("headers", "status"), KEYS)
def test_the_key_may_stand_in_either_header(
    tokenizer: Tokenizer, headers: dict[str, str], status: int
) -> None:
    async def test(front: Frontend) -> None:
        response = await front.client.post(MESSAGES, json=HI, headers=headers)
        assert response.status_code == status, response.text
        if status == 401:
            assert response.json()["error"]["type"] == "authentication_error"

    run(tokenizer, test, api_key=["right", "other"])


SCRIPT = [
    ChatDelta(role="assistant", reasoning="h"),
    ChatDelta(reasoning="m"),
    ChatDelta(content="See"),
    tool_delta(0, '{"a"', "c1", "f"),
    tool_delta(0, ":1}"),
    tool_delta(1, "", "c2", "g"),
    tool_delta(1, "{}"),
    ChatDelta(content=""),
]


def test_a_stream_of_thinking_text_and_tools() -> None:
    chat = ScriptedChat(SCRIPT, "tool_calls")
    writer = MessageWriter(HEAD, chat.as_writer())
    events = [data for _, data in events_of(played(writer, len(SCRIPT)).decode())]
    blocks = [e["content_block"] for e in events if e["type"] == "content_block_start"]
    assert blocks == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
        {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
    ]
    indexes = [e["index"] for e in events if "index" in e]
    assert indexes == sorted(indexes) and set(indexes) == {0, 1, 2, 3}
    deltas = [(e["index"], e["delta"]) for e in events if e["type"] == "content_block_delta"]
    parts = [
        "".join(str(v) for i, d in deltas if i == n for k, v in d.items() if k != "type")
        for n in range(4)
    ]
    assert parts == ["hm", "See", '{"a":1}', "{}"]
    kinds = {d["type"] for _, d in deltas}
    assert kinds == {"thinking_delta", "text_delta", "input_json_delta"}
    starts = [
        e["type"] for e in events if e["type"] in ("content_block_start", "content_block_stop")
    ]
    assert starts == ["content_block_start", "content_block_stop"] * 4
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_sdk_reads_that_stream() -> None:
    sdk: Any = pytest.importorskip("anthropic")
    chat = ScriptedChat(SCRIPT, "tool_calls")
    stream = played(MessageWriter(HEAD, chat.as_writer()), len(SCRIPT))
    with (
        sdk.Anthropic(
            base_url="http://x",
            api_key="none",
            http_client=answering(sdk.DefaultHttpxClient, stream),
        ) as claude,
        claude.messages.stream(**HI) as events,
    ):
        message = events.get_final_message()
    kinds = [block.type for block in message.content]
    assert kinds == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.input for block in message.content[2:]] == [{"a": 1}, {}]
    assert message.stop_reason == "tool_use" and message.usage.output_tokens == 5


def test_a_whole_message_of_thinking_text_and_tools() -> None:
    calls = [
        ToolCall(id="c1", function=FunctionCall(name="f", arguments='{"a":1}')),
        ToolCall(id="c2", function=FunctionCall(name="g", arguments='{"broken')),
    ]
    message = Message(content="See", reasoning="hm", tool_calls=calls)
    choice = ChatChoice(index=0, message=message, finish_reason="stop")
    chat = ChatCompletion(
        id="chatcmpl-7",
        created=1,
        model="m",
        choices=[choice],
        system_fingerprint="f",
        usage=ScriptedChat([]).usage(),
    )
    answer = msgspec.to_builtins(message_of(HEAD, chat))
    assert answer["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "See"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
    ]
    assert (answer["id"], answer["stop_reason"]) == (HEAD.id, "tool_use")


def test_strictness_knows_blocks_by_their_type(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        text = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": [text]}
        fine = await front.post(MESSAGES, **(HI | user(text, result)))
        assert fine.status_code == 200, fine.text
        odd = await front.post(
            MESSAGES, **(HI | user(text, result | {"content": [text | {"x": 1}]}))
        )
        assert odd.status_code == 400
        assert "messages[0].content[1].content[0].x" in odd.json()["error"]["message"]

    run(tokenizer, test, strict_requests=True)


def test_an_unsupported_block_is_named_before_anything_runs() -> None:
    with pytest.raises(InvalidRequest, match="type document"):
        chat_from(**user({"type": "document", "source": {}}))
