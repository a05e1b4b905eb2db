"""The Messages and Responses APIs with reasoning and tool calls read out of a model's text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from front_engine import Frontend, frontend
from front_tokenizers import load_byte_level

from octavo.shared.messages import unpack
from octavo.shared.text.tokenizer import Tokenizer

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}
TEMPLATE = (
    "{{ bos_token }}{% for t in tools or [] %}<tool_call> {{ t | tojson }}\n{% endfor %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for c in message.tool_calls or [] %}{{ c.function.arguments.city }}{% endfor %}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)
ARGUMENTS = '{"city": "Rome"}'
CALL = f'<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
REPLY = f"<think>\nHm.\n</think>\n\nLook:\n{CALL}\n{CALL}"
QUESTION = [{"role": "user", "content": "Hi"}]
MESSAGES: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 500,
    "messages": QUESTION,
    "tools": [{"name": "weather", "input_schema": PARAMETERS}],
}
RESPONSES: dict[str, Any] = {
    "input": "Hi",
    "tools": [{"type": "function", "name": "weather", "parameters": PARAMETERS}],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_byte_level(tmp_path_factory.mktemp("tokenizer"), TEMPLATE)


def run(tokenizer: Tokenizer, test: Callable[[Frontend], Awaitable[None]], reply: str) -> None:
    async def main() -> None:
        async with frontend(tokenizer, reply, max_model_len=1024, reasoning_parser="qwen3") as f:
            await test(f)

    asyncio.run(main())


def events_of(text: str) -> list[Any]:
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_message(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = (await front.post("/v1/messages", **MESSAGES)).json()
        thought, text, *uses = body["content"]
        assert (thought["thinking"], text["text"]) == ("Hm.", "Look:")
        assert [use["input"] for use in uses] == [json.loads(ARGUMENTS)] * 2
        assert len({use["id"] for use in uses}) == 2 and body["stop_reason"] == "tool_use"

    run(tokenizer, test, REPLY)


def test_a_streamed_message(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        events = events_of((await front.post("/v1/messages", **MESSAGES, stream=True)).text)
        assert [event["type"] for event in events[:2]] == ["message_start", "ping"]
        blocks = [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]
        assert blocks == ["thinking", "text", "tool_use", "tool_use"]
        for index, wanted in enumerate(("Hm.", "Look:", ARGUMENTS, ARGUMENTS)):
            deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"
                      and e["index"] == index]  # fmt: skip
            news = [text for one in deltas for name, text in one.items() if name != "type"]
            assert "".join(news) == wanted
        assert events[-2]["delta"]["stop_reason"] == "tool_use"

    run(tokenizer, test, REPLY)


def test_a_message_opens_before_its_text_is_known(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        events = events_of((await front.post("/v1/messages", **MESSAGES, stream=True)).text)
        assert [event["type"] for event in events] == [
            *("message_start", "ping", "content_block_start", "content_block_delta"),
            *("content_block_stop", "message_delta", "message_stop"),
        ]

    run(tokenizer, test, "<think></think>\n\n.")


def test_a_response(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = (await front.post("/v1/responses", **RESPONSES)).json()
        events = events_of((await front.post("/v1/responses", **RESPONSES, stream=True)).text)
        for output in (body["output"], events[-1]["response"]["output"]):
            thought, message, *calls = output
            assert thought["content"] == [{"type": "reasoning_text", "text": "Hm."}]
            assert message["content"][0]["text"] == "Look:"
            assert [call["arguments"] for call in calls] == [ARGUMENTS] * 2
            assert len({call["call_id"] for call in calls}) == 2
        assert body["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
        assert body["usage"] == events[-1]["response"]["usage"]

    run(tokenizer, test, REPLY)


def test_what_was_said_comes_back_in_the_next_prompt(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        said = (await front.post("/v1/messages", **MESSAGES)).json()["content"]
        result = {"type": "tool_result", "tool_use_id": said[2]["id"], "content": "warm"}
        turns = [*QUESTION, {"role": "assistant", "content": said}]
        turns.append({"role": "user", "content": [result]})
        await front.post("/v1/messages", **(MESSAGES | {"messages": turns}))
        output = (await front.post("/v1/responses", **RESPONSES)).json()["output"]
        known = {"type": "function_call_output", "call_id": output[2]["call_id"], "output": "warm"}
        await front.post("/v1/responses", **(RESPONSES | {"input": [*QUESTION, *output, known]}))
        _, first, _, second = (
            tokenizer.decode(unpack(submit.prompt_ids).tolist(), skip_special_tokens=False)
            for submit in front.engine.submits
        )
        for prompt in (first, second):
            assert "Look:RomeRome" in prompt and "tool\nwarm" in prompt

    run(tokenizer, test, REPLY)


def test_counted_tokens_hold_the_tools(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        asked = {name: value for name, value in MESSAGES.items() if name != "max_tokens"}
        counted = (await front.post("/v1/messages/count_tokens", **asked)).json()
        usage = (await front.post("/v1/messages", **MESSAGES)).json()["usage"]
        read = usage["input_tokens"] + usage["cache_read_input_tokens"]
        assert counted == {"input_tokens": read}

    run(tokenizer, test, REPLY)
