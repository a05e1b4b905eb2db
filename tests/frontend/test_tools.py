"""Chats with tools and reasoning, from the request to the deltas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import jsonschema
import pytest
from front_engine import Frontend, frontend
from front_tokenizers import load_byte_level
from grammar_walks import new_matcher, text_of, walk

from octavo.services.frontend.chat_parts import ChatParts, Reading
from octavo.services.frontend.parsers.call_format import calls_spec
from octavo.services.frontend.parsers.registry import (
    PLAIN_PARSER,
    REASONING_PARSERS,
    TOOL_PARSERS,
    ToolParser,
)
from octavo.shared.config import ReasoningParserName, ToolParserName
from octavo.shared.http_counts import PARSER_CALLS
from octavo.shared.messages import unpack
from octavo.shared.text.tokenizer import Tokenizer

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"enum": [1, 2]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
NOW: Any = {"type": "function", "function": {"name": "now"}}
TEMPLATE = (
    "{{ bos_token }}{% for t in tools or [] %}<tool_call> {{ t | tojson }}\n{% endfor %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for c in message.tool_calls or [] %}{{ c.function.arguments.city }}{% endfor %}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n{% if enable_thinking is defined %}"
    "{{ '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ reasoning_effort or '' }}"
)
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "days": 1}}\n</tool_call>'
ARGUMENTS = '{"city": "Rome", "days": 1}'


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_byte_level(tmp_path_factory.mktemp("tokenizer"), TEMPLATE)


def run(
    tokenizer: Tokenizer, reply: str, test: Callable[[Frontend], Awaitable[None]], **config: Any
) -> None:
    async def main() -> None:
        async with frontend(tokenizer, reply, max_model_len=1024, **config) as front:
            await test(front)

    asyncio.run(main())


def test_a_call_whole_and_streamed(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = {"messages": HI, "tools": [WEATHER, NOW]}
        choice = (await front.post(CHAT, **body)).json()["choices"][0]
        [call] = choice["message"].pop("tool_calls")
        assert choice["message"]["content"] == "Look:" and choice["finish_reason"] == "tool_calls"
        assert call["type"] == "function" and call["id"].startswith("chatcmpl-tool-")
        assert call["function"] == {"name": "weather", "arguments": ARGUMENTS}
        *chunks, done = await front.events(CHAT, **body)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        news = [call for delta in deltas for call in delta.get("tool_calls", [])]
        assert news[0]["function"]["name"] == "weather" and news[0]["id"] and done == "[DONE]"
        assert all("id" not in one and one["index"] == 0 for one in news[1:])
        assert "".join(one["function"]["arguments"] for one in news) == ARGUMENTS
        assert len(news) > 5
        assert "".join(delta.get("content") or "" for delta in deltas) == "Look:"
        assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"

    run(tokenizer, "Look:\n" + CALL, test)


def test_questions_to_the_parser_are_counted(tokenizer: Tokenizer) -> None:
    """Of each choice once; in a stream of each delta; of whom tools were no matter, never."""

    async def test(front: Frontend) -> None:
        def counted() -> dict[tuple[str, str, str], int]:
            calls = front.engine_client.http.counts().calls
            return {what: n for what, n in zip(PARSER_CALLS, calls, strict=True) if n}

        await front.post(CHAT, messages=HI)
        assert not counted()
        await front.post(CHAT, messages=HI, tools=[WEATHER], n=2)
        whole = {("non_streaming", "tool_call", "chat_completions"): 2}
        assert counted() == whole
        tool = {"type": "function", "name": "weather", "parameters": PARAMETERS}
        await front.post("/v1/responses", input="Hi", tools=[tool])
        whole[("non_streaming", "tool_call", "responses")] = 1
        tool = {"name": "weather", "input_schema": PARAMETERS}
        body = {"model": "tiny", "messages": HI, "tools": [tool], "max_tokens": 500}
        assert (await front.post("/v1/messages", **body)).status_code == 200
        whole[("non_streaming", "tool_call", "other")] = 1
        assert counted() == whole
        await front.events(CHAT, messages=HI, tools=[WEATHER])
        streamed = {what: n for what, n in counted().items() if what not in whole}
        assert {outcome for _, outcome, _ in streamed} == {"tool_call", "no_tool_call"}
        assert {(mode, kind) for mode, _, kind in streamed} == {("streaming", "chat_completions")}
        assert sum(streamed.values()) > 5

    run(tokenizer, "Look:\n" + CALL, test)


def test_content_is_null_beside_calls_alone(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(CHAT, messages=HI, tools=[WEATHER], n=2)
        for choice in response.json()["choices"]:
            assert choice["message"]["content"] is None
            assert len(choice["message"]["tool_calls"]) == 2
        one = await front.post(CHAT, messages=HI, tools=[WEATHER], parallel_tool_calls=False)
        assert len(one.json()["choices"][0]["message"]["tool_calls"]) == 1

    run(tokenizer, CALL + "\n" + CALL, test)


def test_the_template_is_given_the_tools_and_earlier_calls(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        call = {"id": "x", "type": "function",
                "function": {"name": "weather", "arguments": ARGUMENTS}}  # fmt: skip
        messages = [*HI, {"role": "assistant", "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "x", "content": "sun"}]  # fmt: skip
        effort = {"reasoning_effort": "high", "messages": messages}
        await front.post(CHAT, tools=[WEATHER], **effort)
        await front.post(CHAT, tools=[WEATHER], tool_choice="none", **effort)
        with_tools, without = (
            tokenizer.decode(unpack(s.prompt_ids).tolist(), skip_special_tokens=False)
            for s in front.engine.submits
        )
        assert '"name": "weather"' in with_tools and "strict" not in with_tools
        assert '"name": "weather"' not in without
        assert "Rome" in with_tools and with_tools.endswith("high")

    run(tokenizer, "Sunny.", test)


def test_what_constrains_calls(tokenizer: Tokenizer) -> None:
    strict: Any = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"tools": [WEATHER]}, False),
        ({"tools": [strict]}, True),
        ({"tools": [WEATHER], "tool_choice": "required"}, True),
        ({"tools": [NOW], "tool_choice": {"type": "function", "function": {"name": "now"}}}, True),
        ({"tools": [WEATHER], "tool_choice": "none"}, False),
        ({"tools": [WEATHER], "response_format": {"type": "json_object"}}, True),
    ]

    async def test(front: Frontend) -> None:
        for fields, constrained in cases:
            response = await front.post(CHAT, messages=HI, **fields)
            assert response.status_code == 200, response.text
            assert (front.engine.submits[-1].sampling.grammar is not None) == constrained, fields

    run(tokenizer, CALL, test)


def test_a_model_without_a_format_can_be_made_to_call(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(CHAT, messages=HI, tools=[WEATHER], tool_choice="required")
        [call] = response.json()["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}

    reply = '[{"name": "weather", "arguments": {"city": "Oslo"}}]'
    run(tokenizer, reply, test, tool_call_parser="none")


THOUGHTS = "<think>\nLet me see.\n</think>\n\nIt is 4."


def test_reasoning_under_both_names(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = (await front.post(CHAT, messages=HI)).json()
        message = body["choices"][0]["message"]
        assert message["reasoning"] == message["reasoning_content"] == "Let me see."
        assert message["content"] == "It is 4."
        count = body["usage"]["completion_tokens_details"]["reasoning_tokens"]
        before = tokenizer.encode(THOUGHTS.partition("\n\n")[0], add_special_tokens=False)
        assert count == len(before)
        chunks = await front.events(CHAT, messages=HI, stream_options={"include_usage": True})
        deltas = [c["choices"][0]["delta"] for c in chunks[:-2]]
        for name in ("reasoning", "reasoning_content"):
            assert "".join(delta.get(name, "") for delta in deltas) == "Let me see."
        assert "".join(delta.get("content", "") for delta in deltas) == "It is 4."
        assert chunks[-2]["usage"]["completion_tokens_details"]["reasoning_tokens"] == count
        hidden = await front.post(CHAT, messages=HI, include_reasoning=False)
        assert "reasoning" not in hidden.json()["choices"][0]["message"]

    run(tokenizer, THOUGHTS, test, reasoning_parser="qwen3")


@pytest.mark.parametrize(
    ("thinking", "reply", "reasoning", "content"),
    [
        (True, "Hm.\n</think>\n\nYes.", "Hm.", "Yes."),
        (False, "Yes, </think>.", None, "Yes, </think>."),
        (None, "Yes.", None, "Yes."),
    ],
)
def test_the_prompt_tells_whether_reasoning_has_begun(
    tokenizer: Tokenizer, thinking: bool | None, reply: str, reasoning: str | None, content: str
) -> None:
    async def test(front: Frontend) -> None:
        kwargs = {} if thinking is None else {"enable_thinking": thinking}
        asked = {"messages": HI, "chat_template_kwargs": kwargs}
        message = (await front.post(CHAT, **asked)).json()["choices"][0]["message"]
        assert (message.get("reasoning"), message["content"]) == (reasoning, content)
        constrained = {"response_format": {"type": "json_object"}, "thinking_token_budget": 9}
        await front.post(CHAT, **asked, **constrained)
        sampling = front.engine.submits[-1].sampling
        assert bool(sampling.reasoning_end_ids) == (thinking is not False)
        assert bool(sampling.reasoning_begin_ids) == (thinking is None)
        assert sampling.thinking_token_budget == (None if thinking is False else 9)

    run(tokenizer, reply, test, reasoning_parser="qwen3")


REASONED = {
    "deepseek_r1": ("I think.\n</think>\n\nFine.", "I think.", "Fine."),
    "qwen3": ("<think>\nI think.\n</think>\n\nFine.", "I think.", "Fine."),
    "glm45": ("\n<think>I think.</think>\nFine.", "I think.", "Fine."),
    "mistral": ("[THINK]I think.[/THINK]Fine.", "I think.", "Fine."),
    "granite": ("Here is my thought process: I think.\n\nHere is my response: Fine.",
                "I think.", "Fine."),
    "openai_gptoss": (
        "<|channel|>analysis<|message|>I think.<|end|><|start|>assistant<|channel|>final"
        "<|message|>Fine.<|return|>", "I think.", "Fine."),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REASONED))
def test_reasoning_formats_cut_anywhere(name: str) -> None:
    text, *expected = REASONED[name]
    tools = TOOL_PARSERS["openai"] if name == "openai_gptoss" else None
    parser = REASONING_PARSERS[name]
    for border in range(len(text) + 1):
        parts = ChatParts(Reading(tools, parser, True if parser.implied else None))
        news = [parts.push(text[:border], False), parts.push(text[border:], True)]
        reasoning, content = "".join(n.reasoning for n in news), "".join(n.content for n in news)
        assert [reasoning, content] == expected
        assert parts.has_reasoned and not parts.in_reasoning


def test_calls_behind_reasoning(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(CHAT, messages=HI, tools=[WEATHER])
        message = response.json()["choices"][0]["message"]
        assert message["reasoning"] == "Hm." and message["content"] is None
        assert message["tool_calls"][0]["function"]["arguments"] == ARGUMENTS

    run(tokenizer, f"<think>Hm.</think>\n{CALL}", test, reasoning_parser="qwen3")


@pytest.mark.parametrize("name", sorted(TOOL_PARSERS))
def test_what_a_grammar_of_calls_allows_is_read_back(name: str) -> None:
    parser = TOOL_PARSERS[name] if TOOL_PARSERS[name].own else PLAIN_PARSER
    schemas = [("weather", PARAMETERS), ("now", {"type": "object", "additionalProperties": False})]
    spec = calls_spec(parser.calls, schemas, (), one=False)
    for seed in range(4):
        check_walk(parser, calls_spec(parser.calls, schemas, (), one=bool(seed % 2)), seed)
    if parser.calls.trigger:
        spec = calls_spec(parser.calls, schemas, (), one=False, optional=True)
        assert new_matcher(spec).accept([5, 6, 7])


def check_walk(parser: ToolParser, spec: Any, seed: int) -> None:
    import random

    matcher = new_matcher(spec)
    ids = walk(matcher, random.Random(seed), max_tokens=300, hurry_after=30)
    assert matcher.failed is None
    if not matcher.is_accepting:
        return
    parts = ChatParts(Reading(parser))
    parts.push(text_of(ids), True)
    assert parts.calls
    for call in parts.calls:
        if call.name == "weather":
            jsonschema.validate(json.loads(call.arguments), PARAMETERS)
        else:
            assert (call.name, json.loads(call.arguments)) == ("now", {})


def test_every_parser_can_be_named() -> None:
    from typing import get_args

    assert {*get_args(ToolParserName)} == {*TOOL_PARSERS, "auto", "none"}
    assert {*get_args(ReasoningParserName)} == {*REASONING_PARSERS, "auto", "none"}
