"""The Responses API over the scripted engine, and over scripted chats."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import msgspec
import openai
import pytest
from front_chat_script import HEAD, ScriptedChat, answering, played, tool_delta
from front_engine import CACHED_TOKENS, Frontend, run

from octavo.services.frontend.replies import (
    ChatChoice,
    ChatCompletion,
    ChatDelta,
    FunctionCall,
    Message,
    ToolCall,
)
from octavo.services.frontend.responses.schema import ResponsesRequest
from octavo.services.frontend.responses.to_chat import chat_request
from octavo.services.frontend.responses.writer import ResponseWriter
from octavo.shared.messages import unpack
from octavo.shared.text.tokenizer import Tokenizer

PATH = "/v1/responses"
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def events_of(text: str) -> list[Any]:
    """The events' data; their names and numbers are checked here."""
    found = []
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            name, data = block.split("\n", 1)
            found.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def chat_from(**fields: Any) -> dict[str, Any]:
    """The chat that a Responses request becomes, with its unset fields left out."""
    chat = chat_request(msgspec.convert({"input": "Hi"} | fields, ResponsesRequest))
    return {k: v for k, v in msgspec.to_builtins(chat).items() if v is not None}


def turns_of(*items: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    chat = chat_from(input=list(items), **fields)
    return [{k: v for k, v in turn.items() if v is not None} for turn in chat["messages"]]


def test_the_whole_answer(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(PATH, input="Hi", metadata={"a": "b"}, store=True)
        body = response.json()
        assert response.headers["x-octavo-ignored-fields"] == "store"
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}])
        used = len(tokenizer.encode("Hello world", False)) + 1
        assert response.status_code == 200, response.text
        assert body["id"].startswith("resp_") and body["object"] == "response"
        assert (body["status"], body["error"], body["store"]) == ("completed", None, False)
        [item] = body["output"]
        assert item.pop("id").startswith("msg_")
        part = {"type": "output_text", "text": "Hello world", "annotations": [], "logprobs": []}
        assert item == {
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [part],
        }
        assert body["usage"] == {
            "input_tokens": len(prompt),
            "input_tokens_details": {"cached_tokens": CACHED_TOKENS, "cache_write_tokens": 0},
            "output_tokens": used,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": len(prompt) + used,
        }
        assert (body["metadata"], body["tool_choice"]) == ({"a": "b"}, "auto")
        assert body["text"] == {"format": {"type": "text"}}

    run(tokenizer, test)


def test_the_streamed_answer(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        events = events_of((await front.post(PATH, input="Hi", stream=True)).text)
        kinds = [event["type"].removeprefix("response.") for event in events]
        deltas = [e["delta"] for e in events if e["type"].endswith("output_text.delta")]
        assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
        assert kinds[4:-4] == ["output_text.delta"] * len(deltas) and len(deltas) > 1
        assert kinds[-4:] == [
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
        assert "".join(deltas) == events[-4]["text"] == "Hello world"
        assert events[0]["response"]["output"] == [] and events[0]["response"]["usage"] is None
        last, whole = events[-1]["response"], (await front.post(PATH, input="Hi")).json()
        assert last["output"][0]["content"] == whole["output"][0]["content"]
        assert last["usage"] == whole["usage"] and last["status"] == "completed"
        assert events[2]["item"]["id"] == events[-2]["item"]["id"] == last["output"][0]["id"]

    run(tokenizer, test)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_was_cut(tokenizer: Tokenizer, stream: bool) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(PATH, input="Hi", max_output_tokens=1, stream=stream)
        if stream:
            last = events_of(response.text)[-1]
            assert last["type"] == "response.incomplete"
        body = last["response"] if stream else response.json()
        assert body["status"] == body["output"][-1]["status"] == "incomplete"
        assert body["incomplete_details"] == {"reason": "max_output_tokens"}

    run(tokenizer, test)


def test_every_field_reaches_the_engine(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(
            PATH,
            model="alias",
            instructions="Be brief.",
            input=[{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
            temperature=0.5,
            top_p=0.9,
            max_output_tokens=7,
            text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
            include=["message.output_text.logprobs"],
            top_logprobs=2,
        )
        body = response.json()
        assert response.status_code == 200, response.text
        [submit] = front.engine.submits
        sampling = submit.sampling
        assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.5, 0.9, 7)
        assert sampling.logprobs == 2 and sampling.grammar is not None
        told = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        assert unpack(submit.prompt_ids).tolist() == tokenizer.apply_chat_template(told)
        entries = body["output"][0]["content"][0]["logprobs"]
        assert entries and all(len(entry["top_logprobs"]) == 2 for entry in entries)
        assert (body["model"], body["temperature"]) == ("alias", 0.5)
        assert body["text"]["format"]["schema"] == {"type": "object"}

    run(tokenizer, test)


def test_streamed_logprobs_add_up(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        events = events_of((await front.post(PATH, input="Hi", top_logprobs=1, stream=True)).text)
        deltas = [e for e in events if e["type"] == "response.output_text.delta"]
        [done] = [e for e in events if e["type"] == "response.output_text.done"]
        assert [entry for e in deltas for entry in e["logprobs"]] == done["logprobs"] != []

    run(tokenizer, test)


def test_a_conversation_with_tools() -> None:
    def call(n: int) -> dict[str, Any]:
        return {"type": "function_call", "call_id": f"c{n}", "name": "f", "arguments": "{}"}

    turns = turns_of(
        {"role": "user", "content": "a"},
        {"type": "reasoning", "id": "r", "summary": [], "content": [_part("reasoning_text", "hm")]},
        {"type": "message", "role": "assistant", "content": [_part("output_text", "Let me see.")]},
        call(1),
        call(2),
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {"type": "function_call_output", "call_id": "c2", "output": [_part("input_text", "wet")]},
        {"type": "reasoning", "summary": [_part("summary_text", "so")]},
        call(3),
        {"role": "assistant", "content": "Done."},
        {"role": "developer", "content": "d"},
    )
    calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for n in (1, 2, 3)
    ]
    assert turns == [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning": "hm",
            "tool_calls": calls[:2],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "wet"},
        {"role": "assistant", "content": "", "reasoning": "so", "tool_calls": calls[2:]},
        {"role": "assistant", "content": "Done."},
        {"role": "developer", "content": "d"},
    ]


def _part(kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "text": text}


def test_tools_and_effort_reach_the_chat() -> None:
    chat = chat_from(
        tools=[WEATHER | {"strict": True, "description": "d"}],
        tool_choice={"type": "function", "name": "weather"},
        reasoning={"effort": "high", "summary": "auto"},
    )
    function: dict[str, Any] = {"name": "weather", "description": "d", "strict": True}
    function["parameters"] = {"type": "object"}
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert chat["reasoning_effort"] == "high"


IMAGE = {"type": "input_image", "image_url": "http://x"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": [{"role": "user", "content": [IMAGE]}]}, "input[0].content[0]"),
    ({"input": [{"content": "x"}]}, "input[0].role"),
    ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
    ({"input": "x" * 3000}, "input"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": 5000}, "max_output_tokens"),
    ({"temperature": -1}, "temperature"),
    ({"tools": [{"type": "web_search"}]}, "tools[0]"),
    ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "wrong"}}}},
        "text.format",
    ),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"background": True}, "background"),
    ({"conversation": "c"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
]


@pytest.mark.parametrize(("fields", "param"), BAD)
def test_bad_requests(tokenizer: Tokenizer, fields: dict[str, Any], param: str) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(PATH, **({"input": "Hi"} | fields))
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] == param
        assert front.engine.submits == []

    run(tokenizer, test)


def test_nothing_is_stored(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        made = (await front.post(PATH, input="Hi")).json()["id"]
        for method, path in (("GET", made), ("DELETE", made), ("GET", f"{made}/input_items")):
            response = await front.client.request(method, f"{PATH}/{path}")
            assert response.status_code == 404
            assert "stores no responses" in response.json()["error"]["message"]

    run(tokenizer, test)


def test_an_error_within_a_stream(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = asyncio.create_task(front.post(PATH, input="Hi", stream=True))
        await front.settle()
        [submit] = front.engine.submits
        front.engine.token(submit, front.engine.reply[0], first=True)
        await front.settle()
        front.engine.fail(submit)
        last = events_of((await call).text)[-1]
        assert last["type"] == "response.failed"
        assert last["response"]["status"] == "failed"
        assert last["response"]["error"]["code"] == "server_error"

    run(tokenizer, test)


SCRIPT = [
    ChatDelta(role="assistant", reasoning="h"),
    ChatDelta(reasoning="m"),
    ChatDelta(content="See"),
    tool_delta(0, '{"a"', "c1", "f"),
    tool_delta(0, ":1}"),
    tool_delta(1, "", "c2", "g"),
    tool_delta(1, "{}"),
]


def scripted(chat: ScriptedChat) -> ResponseWriter:
    body = ResponsesRequest(input="Hi")
    return ResponseWriter(HEAD, body, chat.as_writer())


def test_a_stream_of_reasoning_text_and_tools() -> None:
    writer = scripted(ScriptedChat(SCRIPT, "tool_calls"))
    events = events_of(played(writer, len(SCRIPT)).decode())
    last = events[-1]["response"]
    assert [item["type"] for item in last["output"]] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    for index, item in enumerate(last["output"]):
        mine = [e for e in events if e.get("output_index") == index]
        added, *between, done = mine
        assert added["type"] == "response.output_item.added"
        assert added["item"]["status"] == "in_progress" and added["item"]["id"] == item["id"]
        assert {e["item_id"] for e in between} == {item["id"]}
        assert (done["type"], done["item"]) == ("response.output_item.done", item)
    arguments = [item["arguments"] for item in last["output"][2:]]
    assert arguments == ['{"a":1}', "{}"]
    names = [(item["call_id"], item["name"]) for item in last["output"][2:]]
    assert names == [("c1", "f"), ("c2", "g")]
    assert last["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    kinds = {event["type"].removeprefix("response.") for event in events}
    assert {"reasoning_text.delta", "reasoning_text.done"} < kinds
    assert {"function_call_arguments.delta", "function_call_arguments.done"} < kinds


def test_the_sdk_reads_that_stream() -> None:
    stream = played(scripted(ScriptedChat(SCRIPT, "tool_calls")), len(SCRIPT))
    http = answering(openai.DefaultHttpxClient, stream)
    with (
        openai.OpenAI(base_url="http://x", api_key="none", http_client=http) as client,
        client.responses.stream(model="m", input="Hi") as events,
    ):
        kinds = [event.type for event in events]
        final = events.get_final_response()
    assert final.output_text == "See" and kinds[-1] == "response.completed"
    calls = [item.arguments for item in final.output if item.type == "function_call"]
    assert calls == ['{"a":1}', "{}"]


def test_a_whole_answer_is_what_its_stream_adds_up_to() -> None:
    calls = [
        ToolCall(id="c1", function=FunctionCall(name="f", arguments='{"a":1}')),
        ToolCall(id="c2", function=FunctionCall(name="g", arguments="{}")),
    ]
    message = Message(content="See", reasoning="hm", tool_calls=calls)
    chat = ScriptedChat([])
    completion = ChatCompletion(
        id="chatcmpl-7",
        created=1,
        model="m",
        choices=[ChatChoice(index=0, message=message, finish_reason="tool_calls")],
        system_fingerprint="f",
        usage=chat.usage(),
    )
    cast(Any, chat).whole = lambda: completion
    whole = msgspec.to_builtins(scripted(chat).whole())
    streamed = events_of(played(scripted(ScriptedChat(SCRIPT, "tool_calls")), 7).decode())
    assert whole == streamed[-1]["response"]
